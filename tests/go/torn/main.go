// Command torn is a reader of the torn-read campaign (tests/crash/torn.py) in Go, with the arguments, the keys and the
// values of tests/crash/torn.c:
//
//	torn read SOCKET SECONDS [restarts]
//
// It checks every value that it reads from shared memory, with four goroutines on one map. Ends with 0, or 1 after a line
// that tells what was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"holdfast"
	"math/rand"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	keys       = 48
	pairs      = 8
	checkedMin = 48
	readers    = 4
)

var restarts bool

var reads, many, iterations, changed, away atomic.Uint64

func wrong(format string, arguments ...any) {
	fmt.Printf(format+"\n", arguments...)
	os.Exit(1)
}

func keyOf(index int) string {
	if index < keys {
		return fmt.Sprintf("key-%d", index)
	}
	return fmt.Sprintf("pair-%d-%d", (index-keys)/2, (index-keys)%2)
}

// checkValue returns the number in the value; 0: a short one has none.
func checkValue(key string, value []byte) uint64 {
	size := len(value)
	switch {
	case size == 1 && value[0] >= '0' && value[0] <= '9':
		return 0
	case size < 2 || value[0] != '"' || value[size-1] != '"':
		wrong("torn: %s: %d bytes that are no string", key, size)
	case size < checkedMin:
		for _, letter := range value[1 : size-1] {
			if letter != value[1] {
				wrong("torn: %s: %s", key, value)
			}
		}
		return 0
	}
	hash := fnv.New64a()
	hash.Write([]byte(key))
	hash.Write(value[17 : size-1])
	if found := fmt.Sprintf("%016x", hash.Sum64()); found != string(value[1:17]) {
		wrong("torn: %s: %d bytes, hash %s, not %s", key, size, found, value[1:17])
	}
	number, err := strconv.ParseUint(string(value[17:37]), 10, 64)
	if err != nil {
		wrong("torn: %s: %v", key, err)
	}
	return number
}

// reader is one goroutine's.
type reader struct {
	m         *holdfast.Map
	random    *rand.Rand
	buffer    []byte
	revisions [keys + 2*pairs]uint64
	numbers   [keys + 2*pairs]uint64
}

// isAway: what is to be expected where daemons come and go.
func isAway(err error) bool {
	var dial *net.OpError
	if !restarts || !errors.Is(err, holdfast.ErrConnectionLost) && !errors.As(err, &dial) &&
		!errors.Is(err, holdfast.NoSuchArena) && !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	away.Add(1)
	time.Sleep(5 * time.Millisecond)
	return true
}

// order: nothing runs backwards, but where a daemon was killed what had not reached the disk is lost.
func (r *reader) order(index int, revision, number uint64) {
	if !restarts && revision < r.revisions[index] {
		wrong("backwards: %s: revision %d after %d", keyOf(index), revision, r.revisions[index])
	}
	if !restarts && number > 0 && number < r.numbers[index] {
		wrong("backwards: %s: number %d after %d", keyOf(index), number, r.numbers[index])
	}
	r.revisions[index] = revision
	if number > 0 {
		r.numbers[index] = number
	}
}

func (r *reader) readOne(ctx context.Context) {
	index := r.random.Intn(keys + 2*pairs)
	key := keyOf(index)
	value, revision, err := r.m.Get(ctx, key, r.buffer)
	if errors.Is(err, holdfast.NoSuchKey) || isAway(err) {
		return
	}
	if err != nil {
		wrong("get: %s: %v", key, err)
	}
	r.order(index, revision, checkValue(key, value))
	r.buffer = value
	reads.Add(1)
}

func (r *reader) readPair(ctx context.Context) {
	first := keys + 2*r.random.Intn(pairs)
	entries, _, err := r.m.GetMany(ctx, keyOf(first), keyOf(first+1))
	if isAway(err) {
		return
	}
	if err != nil {
		wrong("get many: %v", err)
	}
	if len(entries) == 1 {
		wrong("two states: %s is there alone", entries[0].Key)
	}
	var numbers [2]uint64
	for i, entry := range entries {
		numbers[i] = checkValue(entry.Key, entry.Value)
		r.order(first+i, entry.Revision, numbers[i])
	}
	if len(entries) == 2 && (numbers[0] != numbers[1] || entries[0].Revision != entries[1].Revision) {
		wrong("two states: %s has %d, %s has %d", entries[0].Key, numbers[0], entries[1].Key, numbers[1])
	}
	many.Add(1)
}

func (r *reader) iterate(ctx context.Context) {
	_, err := r.m.Iterate(ctx, func(entry holdfast.Entry) error {
		if strings.HasPrefix(entry.Key, "key-") || strings.HasPrefix(entry.Key, "pair-") {
			checkValue(entry.Key, entry.Value)
		}
		return nil
	})
	switch {
	case err == nil:
		iterations.Add(1)
	case errors.Is(err, holdfast.ErrChanged):
		changed.Add(1)
	case !isAway(err):
		wrong("iterate: %v", err)
	}
}

func (r *reader) run(ctx context.Context, until time.Time) {
	for time.Now().Before(until) {
		for i := 0; i < 64; i++ {
			switch draw := r.random.Intn(2000); {
			case draw == 0:
				r.iterate(ctx)
			case draw < 300:
				r.readPair(ctx)
			default:
				r.readOne(ctx)
			}
		}
	}
}

func main() {
	if len(os.Args) < 4 || os.Args[1] != "read" {
		fmt.Fprintln(os.Stderr, "usage: torn read SOCKET SECONDS [restarts]")
		os.Exit(64)
	}
	restarts = len(os.Args) > 4
	seconds, err := strconv.ParseFloat(os.Args[3], 64)
	if err != nil {
		wrong("%v", err)
	}
	ctx := context.Background()
	client, err := holdfast.Connect(ctx, os.Args[2])
	if err != nil {
		wrong("connect: %v", err)
	}
	m, err := client.OpenMap(ctx, "torn")
	if err != nil {
		wrong("open: %v", err)
	}
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var all sync.WaitGroup
	for i := 0; i < readers; i++ {
		all.Add(1)
		go func(seed int64) {
			defer all.Done()
			r := reader{m: m, random: rand.New(rand.NewSource(seed))}
			r.run(ctx, until)
		}(time.Now().UnixNano() + int64(i))
	}
	all.Wait()
	fmt.Printf("Go reader: %d values, %d pairs, %d iterations and %d that were cut short, %d times away\n", reads.Load(),
		many.Load(), iterations.Load(), changed.Load(), away.Load())
}
