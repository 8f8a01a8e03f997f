package holdfast

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func openMap(t testing.TB, client *Client) *Map {
	t.Helper()
	m, err := client.OpenMap(testContext(t), "a")
	check(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMapReadsWhatWasPut(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	m := openMap(t, client)
	if _, _, err := m.Get(ctx, "k", nil); !errors.Is(err, NoSuchKey) {
		t.Fatal(err)
	}
	// Keys of all lengths that the hash tells apart, values in small and large blocks.
	for _, n := range []int{1, 2, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024} {
		key := strings.Repeat("k", n)
		value := fmt.Sprintf(`"%s"`, strings.Repeat("v", n*n/3))
		revision := put(t, client, key, value)
		found, at, err := m.Get(ctx, key, nil)
		check(t, err)
		equal(t, string(found), value, "value")
		equal(t, at, revision, "revision")
	}
	buffer := make([]byte, 64)
	put(t, client, "k", "0.10")
	found, _, err := m.Get(ctx, "k", buffer)
	check(t, err)
	if &found[0] != &buffer[0] || string(found) != "0.10" {
		t.Fatalf("%s, or not in the buffer", found)
	}
	for _, key := range []string{"", strings.Repeat("k", 1025)} {
		if _, _, err := m.Get(ctx, key, nil); !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	}
	_, err = client.Delete(ctx, "a", "k")
	check(t, err)
	if _, _, err := m.Get(ctx, "k", nil); !errors.Is(err, NoSuchKey) {
		t.Fatal(err)
	}
	check(t, m.Close())
	if _, _, err := m.Get(ctx, "k", nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// fill puts n entries key "00000000".. with the value in a few calls.
func fill(t testing.TB, client *Client, n int, value func(int) string) uint64 {
	t.Helper()
	var revision uint64
	for i := 0; i < n; {
		var operations []Operation
		for bytes := 0; i < n && len(operations) < 20000 && bytes < 8<<20; i++ {
			text := value(i)
			bytes += len(text)
			operations = append(operations, PutOperation(fmt.Sprintf("%016d", i), json.RawMessage(text)))
		}
		var err error
		revision, err = client.Apply(testContext(t), "a", operations...)
		check(t, err)
	}
	return revision
}

func TestMapFollowsGrowth(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	m := openMap(t, client)
	big := `"` + strings.Repeat("x", 60000) + `"`
	fill(t, client, 1300, func(int) string { return big }) // 78 MB: beyond what was mapped at first
	for i := 0; i < 1300; i += 7 {
		found, _, err := m.Get(ctx, fmt.Sprintf("%016d", i), nil)
		check(t, err)
		equal(t, len(found), len(big), "length")
	}
	size := m.memory.Load().size.Load()
	if size < 78*1000*1000 {
		t.Fatalf("%d bytes known", size)
	}
	fill(t, client, 20000, func(i int) string { return fmt.Sprint(i) })
	var seen map[string]bool
	eventually(t, "the arena is at rest: its daemon gives memory back", func() bool {
		seen = map[string]bool{}
		_, err := m.Iterate(ctx, func(entry Entry) error {
			seen[entry.Key] = true
			return nil
		})
		if !errors.Is(err, ErrChanged) {
			check(t, err)
		}
		return err == nil
	})
	equal(t, len(seen), 20000, "entries")
}

func TestMapSeesOneState(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	m := openMap(t, client)
	_, err := client.Apply(ctx, "a", PutOperation("x", json.RawMessage("0")), PutOperation("y", json.RawMessage("0")))
	check(t, err)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			value := json.RawMessage(fmt.Sprint(i))
			if _, err := client.Apply(ctx, "a", PutOperation("x", value), PutOperation("y", value)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	defer writer.Wait()
	defer close(stop)
	last := uint64(0)
	whole, changed := 0, 0
	for i := 0; i < 3000; i++ {
		entries, revision, err := m.GetMany(ctx, "x", "none", "y")
		check(t, err)
		if len(entries) != 2 || string(entries[0].Value) != string(entries[1].Value) ||
			entries[0].Revision != entries[1].Revision || revision < last || revision != entries[0].Revision {
			t.Fatalf("%v at %d after %d", entries, revision, last)
		}
		last = revision
		var texts []string
		_, err = m.Iterate(ctx, func(entry Entry) error {
			texts = append(texts, string(entry.Value))
			return nil
		})
		if errors.Is(err, ErrChanged) {
			changed++
		} else {
			check(t, err)
			whole++
			equal(t, len(texts), 2, "entries")
		}
		if len(texts) == 2 {
			equal(t, texts[0], texts[1], "the other value")
		}
	}
	t.Logf("%d iterations at one state, %d changed meanwhile", whole, changed)
}

// Values carry their own checksum; readers look at them while the daemon rewrites, deletes and grows.
func TestMapReadsAreNeverTorn(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	m := openMap(t, client)
	const keys = 16
	var written [keys]atomic.Uint64
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			body := strings.Repeat(fmt.Sprint(i%10), 1+i*7919%(1<<(i%16)))
			value := fmt.Sprintf(`"%08x%s"`, crc32.ChecksumIEEE([]byte(body)), body)
			key := fmt.Sprint("key", i%keys)
			var err error
			if i%37 == 5 {
				_, err = client.Delete(ctx, "a", key)
			} else {
				var revision uint64
				revision, err = client.Put(ctx, "a", key, json.RawMessage(value))
				written[i%keys].Store(revision)
			}
			if err != nil && !errors.Is(err, NoSuchKey) {
				t.Error(err)
				return
			}
		}
	}()
	var reads atomic.Int64
	for r := 0; r < 4; r++ {
		all.Add(1)
		go func() {
			defer all.Done()
			var last [keys]uint64
			var buffer []byte
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := i % keys
				known := written[k].Load()
				value, revision, err := m.Get(ctx, fmt.Sprint("key", k), buffer)
				if errors.Is(err, NoSuchKey) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				buffer = value
				var sum uint32
				text := string(value)
				fmt.Sscanf(text[1:9], "%08x", &sum)
				if text[0] != '"' || crc32.ChecksumIEEE([]byte(text[9:len(text)-1])) != sum {
					t.Errorf("torn: %.60s at %d", text, revision)
					return
				}
				if revision < last[k] || revision < known {
					t.Errorf("revision %d after %d, %d was answered", revision, last[k], known)
					return
				}
				last[k] = revision
				reads.Add(1)
			}
		}()
	}
	time.AfterFunc(2*time.Second, func() { close(stop) })
	all.Wait()
	if reads.Load() == 0 {
		t.Fatal("nothing was read")
	}
	t.Logf("%d reads", reads.Load())
}

func TestMapWaits(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	m := openMap(t, client)
	before := put(t, client, "k", "1")
	revision, err := m.Revision(ctx)
	check(t, err)
	equal(t, revision, before, "revision")
	changed := make(chan uint64)
	go func() {
		now, err := m.Wait(ctx, before)
		if err != nil {
			t.Error(err)
		}
		changed <- now
	}()
	select {
	case now := <-changed:
		t.Fatalf("changed to %d, with nothing done", now)
	case <-time.After(150 * time.Millisecond):
	}
	after := put(t, client, "k", "2")
	equal(t, <-changed, after, "revision")
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := m.Wait(short, after); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestMapFollowsRestarts(t *testing.T) {
	client, daemon, directory := arena(t)
	ctx := testContext(t)
	m := openMap(t, client)
	for i := 0; i < 5; i++ {
		value := fmt.Sprint(i)
		put(t, client, "k", value)
		check(t, daemon.command.Process.Kill())
		<-daemon.Done()
		// Not stale data for ever: an error, until there is a daemon again.
		eventually(t, "the map notices", func() bool {
			_, _, err := m.Get(ctx, "k", nil)
			return err != nil
		})
		daemon = relaunch(t, directory)
		found, _, err := m.Get(ctx, "k", nil)
		check(t, err)
		equal(t, string(found), value, "value")
	}
}

func TestMapFollowsADropAndANewArena(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	m := openMap(t, client)
	put(t, client, "k", "1")
	check(t, client.DropArena(ctx, "a"))
	if _, _, err := m.Get(ctx, "k", nil); !errors.Is(err, NoSuchArena) {
		t.Fatal(err)
	}
	_, err := client.CreateArena(ctx, "a", ArenaOptions{})
	check(t, err)
	if _, _, err := m.Get(ctx, "k", nil); !errors.Is(err, NoSuchKey) {
		t.Fatal(err)
	}
	put(t, client, "k", "2")
	value, _, err := m.Get(ctx, "k", nil)
	check(t, err)
	equal(t, string(value), "2", "value")
}

func TestOpenArenaHandsOutAReadOnlyFile(t *testing.T) {
	client, _, _ := arena(t)
	file, opened, err := client.OpenArena(testContext(t), "a")
	check(t, err)
	defer file.Close()
	equal(t, opened.Name, "a", "name")
	if _, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err == nil {
		t.Fatal("mapped for writing")
	}
	if _, _, err := client.OpenArena(testContext(t), "none"); !errors.Is(err, NoSuchArena) {
		t.Fatal(err)
	}
}

// --- memory that is not what it should be

// memoryFile makes a memfd of that content, sealed as asked.
func memoryFile(t testing.TB, content []byte, seals uintptr) *os.File {
	name := append([]byte("test"), 0)
	const allowSealing = 2
	fd, _, errno := syscall.Syscall(319, uintptr(unsafe.Pointer(&name[0])), allowSealing, 0)
	if errno != 0 {
		t.Skip("no memfd: ", errno)
	}
	file := os.NewFile(fd, "memory")
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	if seals != 0 {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, 1024+9, seals); errno != 0 {
			t.Fatal(errno)
		}
	}
	return file
}

func TestMemoryThatIsNoneOfAnArenaIsRefused(t *testing.T) {
	null, err := os.Open("/dev/null")
	check(t, err)
	good, _ := arenaBytes(t)
	changed := func(at int, to byte) []byte {
		other := append([]byte(nil), good...)
		other[at] = to
		return other
	}
	const both = sealSeal | sealShrink
	for name, file := range map[string]*os.File{
		"another file":  null,
		"unsealed":      memoryFile(t, good, 0),
		"may shrink":    memoryFile(t, good, sealSeal),
		"too short":     memoryFile(t, good[:100], both),
		"magic":         memoryFile(t, changed(0, 'x'), both),
		"version":       memoryFile(t, changed(headerVersion, 9), both),
		"flags":         memoryFile(t, changed(headerIncompatible, 1), both),
		"another arena": memoryFile(t, changed(headerName, 'b'), both),
	} {
		if _, err := mapMemory(file, "a", &connection{}); !errors.Is(err, ErrMemory) {
			t.Errorf("%s: %v", name, err)
		}
		file.Close()
	}
	_, err = mapMemory(memoryFile(t, good, both), "a", &connection{})
	check(t, err)
}

// arenaBytes is the memory of a small arena, and its keys.
func arenaBytes(t testing.TB) ([]byte, []string) {
	client, _, _ := arena(t, "Journal.Sync=never")
	fill(t, client, 2000, func(i int) string { return fmt.Sprintf(`"%d%s"`, i, strings.Repeat("v", i%300)) })
	file, _, err := client.OpenArena(testContext(t), "a")
	check(t, err)
	defer file.Close()
	stat, err := file.Stat()
	check(t, err)
	content := make([]byte, stat.Size())
	_, err = file.ReadAt(content, 0)
	check(t, err)
	var keys []string
	for i := 0; i < 2000; i += 31 {
		keys = append(keys, fmt.Sprintf("%016d", i))
	}
	return content, keys
}

// Whatever the memory says, a read ends, and with no more than a wrong answer.
func TestDamagedMemoryDoesNoHarm(t *testing.T) {
	good, keys := arenaBytes(t)
	file := memoryFile(t, good, sealSeal|sealShrink)
	writable, err := syscall.Mmap(int(file.Fd()), 0, len(good), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(t, err)
	m, err := mapMemory(file, "a", &connection{})
	check(t, err)
	random := uint64(1)
	next := func(below int) int {
		random = random*6364136223846793005 + 1442695040888963407
		return int(random>>33) % below
	}
	used := len(good)
	for used > pageBytes && good[used-1] == 0 {
		used--
	}
	values := []uint64{0, 1, 0xff, 0xffffffff, 1 << 39, 1<<40 - 1, 0xffffffffffffffff, uint64(len(good)), uint64(len(good)) / 8}
	damaged := 0
	for round := 0; round < 400; round++ {
		for i := 0; i < 1+round%200; i++ {
			at := next(used/8) * 8
			if i%4 == 0 {
				at = next(headerDirectories+64) / 8 * 8 // the header decides most
			}
			atomic.StoreUint64((*uint64)(unsafe.Pointer(&writable[at])), values[next(len(values))]^uint64(next(2)))
		}
		for _, key := range keys {
			value, _, ok, err := m.get(key, hashOf(key, m.seed), nil)
			if err != nil || !ok || len(value) > valueMax {
				damaged++
			}
		}
		m.getMany(keys)
		m.iterate(context.Background(), func(Entry) error { return nil })
		if round%8 == 7 {
			copy(writable, good)
		}
	}
	if damaged == 0 {
		t.Fatal("nothing was damaged")
	}
}
