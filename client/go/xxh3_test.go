package holdfast

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The hash is libxxhash's, for all lengths that a key may have.
func TestHash(t *testing.T) {
	text, err := os.ReadFile("testdata/xxh3.txt")
	check(t, err)
	data := make([]byte, 2048)
	x := uint64(1)
	for i := range data {
		x = x*6364136223846793005 + 1442695040888963407
		data[i] = byte(x >> 56)
	}
	lines := 0
	for _, line := range strings.Split(string(text), "\n") {
		var seed, expected, found uint64
		var length int
		if n, _ := fmt.Sscanf(line, "%x all %x", &seed, &expected); n == 2 {
			for length = 0; length <= 1100; length++ {
				found = found*31 + hashKey(data[:length], seed)
			}
		} else if n, _ := fmt.Sscanf(line, "%x %d %x", &seed, &length, &expected); n == 3 {
			found = hashKey(data[:length], seed)
		} else {
			continue
		}
		lines++
		equal(t, found, expected, line)
	}
	equal(t, lines, 156, "number of vectors")
}
