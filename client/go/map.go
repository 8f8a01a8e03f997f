package holdfast

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// So many times a read is tried again while the daemon changes what it reads, before the daemon is asked instead. After
// the first ones other goroutines are let run in between.
const (
	triesMax   = 128
	triesBusy  = 16
	waitSlice  = 100 * time.Millisecond // how long a waiting goroutine does not look at its context
	remapTries = 4
)

// Map reads an arena straight from the daemon's memory: no system call, no lock, and the daemon does not notice. It may
// be used by any number of goroutines at once.
//
// What it reads is never torn: an entry is as one update left it. It follows the arena: when it grows, when the daemon
// restarts and when an arena of that name is made anew the map maps again, through the client's socket, and where that
// is not possible reads are errors, not stale data.
type Map struct {
	client *Client
	arena  string
	memory atomic.Pointer[memory]

	remapping sync.Mutex
	closed    bool
}

// OpenMap maps an arena, which the caller must have the right to read. The right is looked at now and ends with the
// arena.
func (c *Client) OpenMap(ctx context.Context, arena string) (*Map, error) {
	m := &Map{client: c, arena: arena}
	if _, err := m.remap(ctx, nil); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the map; reads of it return ErrClosed. The memory is unmapped when the garbage collector finds that no read
// goes on in it.
func (m *Map) Close() error {
	m.remapping.Lock()
	defer m.remapping.Unlock()
	m.closed = true
	m.memory.Store(nil)
	return nil
}

// current returns the mapping to read from.
func (m *Map) current(ctx context.Context) (*memory, error) {
	if memory := m.memory.Load(); memory != nil && memory.current() {
		return memory, nil
	}
	return m.remap(ctx, m.memory.Load())
}

// remap opens the arena anew where `old` is still what is mapped; else somebody else did.
func (m *Map) remap(ctx context.Context, old *memory) (*memory, error) {
	m.remapping.Lock()
	defer m.remapping.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if now := m.memory.Load(); now != nil && now != old && now.current() {
		return now, nil
	}
	for try := 0; try < remapTries; try++ {
		connection, file, _, err := m.client.openArena(ctx, m.arena)
		if errors.Is(err, ErrConnectionLost) {
			continue // a read may be repeated
		}
		if err != nil {
			return nil, err
		}
		memory, err := mapMemory(file, m.arena, connection)
		if err != nil {
			file.Close()
			return nil, err
		}
		if memory.current() {
			m.memory.Store(memory)
			return memory, nil
		}
	}
	return nil, fmt.Errorf("holdfast: arena %s cannot be mapped: %w", m.arena, ErrConnectionLost)
}

// after has a failed try wait a little, and looks whether the memory has grown where it led beyond the end.
func (m *Map) after(memory *memory, try int, err error) {
	if err == errBeyond && memory.outgrown() {
		m.memory.CompareAndSwap(memory, nil)
	}
	if try >= triesBusy {
		runtime.Gosched()
	}
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > keyMax {
		return fmt.Errorf("%w: a key of %d bytes", ErrInvalid, len(key))
	}
	return checkTexts(key)
}

func hashOf(key string, seed uint64) uint64 {
	// The string's own bytes, which hashKey only reads: a string and its length lie as a slice does.
	bytes := *(*[]byte)(unsafe.Pointer(&struct {
		string
		int
	}{key, len(key)}))
	return hashKey(bytes, seed)
}

func noSuchKey(arena, key string) error {
	parameters, err := json.Marshal(map[string]string{"arena": arena, "key": key})
	if err != nil {
		return err
	}
	return &Error{Name: NoSuchKey.Error(), Parameters: parameters}
}

// Get reads one entry. The value is written over the buffer, which may be nil, and is a part of it where it fits. Where
// there is no such key the error is NoSuchKey. The context counts only where the daemon must be asked.
func (m *Map) Get(ctx context.Context, key string, buffer []byte) (json.RawMessage, uint64, error) {
	if len(key) == 0 || len(key) > keyMax {
		return nil, 0, checkKey(key)
	}
	for try := 0; try < triesMax; try++ {
		memory, err := m.current(ctx)
		if err != nil {
			return nil, 0, err
		}
		value, revision, ok, err := memory.get(key, hashOf(key, memory.seed), buffer)
		runtime.KeepAlive(memory)
		if err == nil && ok {
			return value, revision, nil
		}
		if err == nil {
			return nil, 0, noSuchKey(m.arena, key)
		}
		m.after(memory, try, err)
	}
	value, revision, err := m.client.Get(ctx, m.arena, key)
	return append(buffer[:0], value...), revision, err
}

// get reads one entry: its slot and its revision are the same before and after the copy, and no update was rolled back
// meanwhile (which gives an entry its old revision again); or there is none, and the change counter did not move.
func (m *memory) get(key string, hash uint64, buffer []byte) (json.RawMessage, uint64, bool, error) {
	aborts := m.load64(headerAbort)
	changes := m.load64(headerChange)
	p, ok, err := m.find(key, hash)
	if err != nil {
		return nil, 0, false, err
	}
	if !ok {
		if changes%2 != 0 || m.load64(headerChange) != changes {
			return nil, 0, false, errTorn
		}
		return nil, 0, false, nil
	}
	value := m.value(&p, buffer)
	if !m.holds(&p) || m.load64(headerAbort) != aborts {
		return nil, 0, false, errTorn
	}
	return value, p.revision, true, nil
}

func (m *memory) value(p *place, buffer []byte) json.RawMessage {
	if uint64(cap(buffer)) < p.bytes {
		buffer = make([]byte, p.bytes)
	}
	buffer = buffer[:p.bytes]
	m.copy(buffer, p.entry+entryHeader+p.keyBytes)
	return buffer
}

// GetMany reads the entries there are of these keys, all of one state, and the arena's revision.
func (m *Map) GetMany(ctx context.Context, keys ...string) ([]Entry, uint64, error) {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, 0, err
		}
	}
	for try := 0; try < triesMax; try++ {
		memory, err := m.current(ctx)
		if err != nil {
			return nil, 0, err
		}
		entries, revision, err := memory.getMany(keys)
		runtime.KeepAlive(memory)
		if err == nil {
			return entries, revision, nil
		}
		m.after(memory, try, err)
	}
	return m.client.GetMany(ctx, m.arena, keys...)
}

// getMany: one state is what lies between two looks at the same even change counter.
func (m *memory) getMany(keys []string) ([]Entry, uint64, error) {
	changes := m.load64(headerChange)
	if changes%2 != 0 {
		return nil, 0, errTorn
	}
	var entries []Entry
	revision := m.load64(countersRevision)
	for _, key := range keys {
		p, ok, err := m.find(key, hashOf(key, m.seed))
		if err != nil {
			return nil, 0, err
		}
		if ok {
			entries = append(entries, Entry{Key: key, Value: m.value(&p, nil), Revision: p.revision})
		}
		if m.load64(headerChange) != changes {
			return nil, 0, errTorn
		}
	}
	return entries, revision, nil
}

// Iterate hands all entries to the function, in no order, and returns the arena's revision. Those that it hands out are
// all of one state; should the arena change before the end, it ends with ErrChanged. The function may keep what it is
// given; an error that it returns ends the iteration.
func (m *Map) Iterate(ctx context.Context, each func(Entry) error) (uint64, error) {
	for try := 0; try < triesMax; try++ {
		memory, err := m.current(ctx)
		if err != nil {
			return 0, err
		}
		handed := false
		revision, err := memory.iterate(ctx, func(entry Entry) error {
			handed = true
			return each(entry)
		})
		runtime.KeepAlive(memory)
		if err != errTorn && err != errBeyond {
			return revision, err
		}
		m.after(memory, try, err)
		if handed {
			break
		}
	}
	return 0, ErrChanged
}

func (m *memory) iterate(ctx context.Context, each func(Entry) error) (uint64, error) {
	changes := m.load64(headerChange)
	if changes%2 != 0 {
		return 0, errTorn
	}
	revision := m.load64(countersRevision)
	buckets, err := m.buckets()
	if err != nil {
		return 0, err
	}
	slots := make([]place, 0, chainBucketsMax*bucketSlots)
	for number := uint64(0); number < buckets; number++ {
		if number%segmentBuckets == 0 && ctx.Err() != nil {
			return 0, fmt.Errorf("holdfast: %w", ctx.Err())
		}
		if slots, err = m.chain(number, slots[:0]); err != nil {
			return 0, err
		}
		for i := range slots {
			entry, err := m.entry(&slots[i])
			if err != nil {
				return 0, err
			}
			if m.load64(headerChange) != changes {
				return 0, errTorn
			}
			if err := each(entry); err != nil {
				return 0, err
			}
		}
	}
	if m.load64(headerChange) != changes || !m.current() {
		return 0, errTorn
	}
	return revision, nil
}

// entry copies an entry with its key.
func (m *memory) entry(slot *place) (Entry, error) {
	p, err := m.entryAt(slot.slotAt, slot.slot)
	if err != nil {
		return Entry{}, err
	}
	both := make([]byte, p.keyBytes+p.bytes)
	m.copy(both, p.entry+entryHeader)
	return Entry{Key: string(both[:p.keyBytes]), Value: both[p.keyBytes:], Revision: p.revision}, nil
}

// Revision is the arena's: that of its last update.
func (m *Map) Revision(ctx context.Context) (uint64, error) {
	_, revision, err := m.GetMany(ctx)
	return revision, err
}

// Wait returns the arena's revision as soon as it is not the given one any more. Waiting costs the daemon one wake-up a
// turn. It returns as well when the context ends, within 100 ms.
func (m *Map) Wait(ctx context.Context, revision uint64) (uint64, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("holdfast: %w", err)
		}
		memory, err := m.current(ctx)
		if err != nil {
			return 0, err
		}
		changes := memory.load64(headerChange)
		now := memory.load64(countersRevision)
		if changes%2 == 0 && now != revision && memory.load64(headerChange) == changes {
			return now, nil
		}
		memory.sleep(uint32(changes))
		runtime.KeepAlive(memory)
	}
}

// sleep waits until the low half of the change counter is another one, or a while.
func (m *memory) sleep(low uint32) {
	const futexWait = 0 // not private: the daemon wakes it
	timeout := syscall.NsecToTimespec(int64(waitSlice))
	syscall.Syscall6(syscall.SYS_FUTEX, uintptr(m.at(headerChange)), futexWait, uintptr(low),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
}
