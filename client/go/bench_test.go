package holdfast

import (
	"fmt"
	"strings"
	"testing"
)

// A million entries, keys of 16 bytes, values of 100 bytes, read at random; what tests/bench/map measures of C.
func BenchmarkMapGet(b *testing.B) {
	client, _, _ := arena(b, "Journal.Sync=never")
	const entries = 1000000
	value := `"` + strings.Repeat("v", 98) + `"`
	fill(b, client, entries, func(int) string { return value })
	m := openMap(b, client)
	ctx := testContext(b)
	keys := make([]string, entries)
	random := uint64(1)
	for i := range keys {
		random = random*6364136223846793005 + 1442695040888963407
		keys[i] = fmt.Sprintf("%016d", random>>33%entries)
	}
	buffer := make([]byte, 256)
	for i := range keys {
		if _, _, err := m.Get(ctx, keys[i], buffer); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, _, err := m.Get(ctx, keys[i%entries], buffer); err != nil {
			b.Fatal(err)
		}
	}
}

// One connection, one goroutine: the way by the socket.
func BenchmarkGet(b *testing.B) {
	client, _, _ := arena(b, "Journal.Sync=never")
	put(b, client, "k", "1")
	ctx := testContext(b)
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, _, err := client.Get(ctx, "a", "k"); err != nil {
			b.Fatal(err)
		}
	}
}
