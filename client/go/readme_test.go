package holdfast

import (
	"os"
	"strings"
	"testing"
)

// The example of the README is the one that is run.
func TestReadmeShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	check(t, err)
	example, err := os.ReadFile("example_test.go")
	check(t, err)
	_, code, _ := strings.Cut(string(readme), "```go\n")
	code, _, found := strings.Cut(code, "```")
	if !found || len(code) < 1000 {
		t.Fatal("the README has no example")
	}
	for _, line := range strings.Split(code, "\n") {
		if line != "" && !strings.Contains(string(example), "\t"+line+"\n") {
			t.Errorf("only in the README: %s", line)
		}
	}
}
