package holdfast

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// How the memory of an arena is read while its daemon goes on changing it. The memory is neither trusted nor at rest:
// every offset is checked against the size of the file before it is used (which never shrinks, the seal says), and every
// loop has a bound. What was read counts only if the checks after it hold; the protocol is that of
// include/holdfast/layout.h.
//
// The order of reads is what everything depends on. sync/atomic's loads are sequentially consistent, so a load that
// comes later in the program is later in fact. Bytes that are copied with memmove are not atomic: where the processor
// keeps loads in order (amd64), and the compiler moves none across an atomic one, that is as good; elsewhere they are
// copied word by word with atomic loads.

const (
	sealSeal   = 0x1
	sealShrink = 0x2
	getSeals   = 1024 + 10 // F_GET_SEALS

	orderedLoads = runtime.GOARCH == "amd64"
)

// What was read cannot be relied on, or the memory is damaged, which looks the same: try again, and at last ask the
// daemon.
var (
	errTorn   = errors.New("holdfast: read while it was changed")
	errBeyond = errors.New("holdfast: it leads beyond the end") // which may have moved
)

// memory is one mapping of an arena. It is unmapped when nobody refers to it any more: readers need no lock.
type memory struct {
	mapped   []byte
	base     unsafe.Pointer // of mapped
	size     atomic.Uint64  // of the file: what lies beyond must not be touched
	file     *os.File
	seed     uint64
	identity [16]byte
	// The process that wrote it then.
	generation uint64
	connection *connection
}

// mapMemory maps the file and checks that it is the arena of that name. It owns the file on success.
func mapMemory(file *os.File, name string, connection *connection) (*memory, error) {
	if !littleEndian() {
		return nil, fmt.Errorf("%w: this processor's byte order is not that of an arena", ErrMemory)
	}
	seals, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), getSeals, 0)
	if errno != 0 || seals&(sealSeal|sealShrink) != sealSeal|sealShrink {
		return nil, fmt.Errorf("%w: it is not sealed against shrinking", ErrMemory)
	}
	m := &memory{file: file, connection: connection}
	size, err := m.measure()
	if err != nil {
		return nil, err
	}
	if err := m.mapFile(size); err != nil {
		return nil, err
	}
	if err := m.checkHeader(name); err != nil {
		syscall.Munmap(m.mapped)
		return nil, err
	}
	runtime.SetFinalizer(m, (*memory).release)
	return m, nil
}

func (m *memory) measure() (uint64, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(m.file.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("%w: %v", ErrMemory, err)
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG || stat.Size < pageBytes {
		return 0, fmt.Errorf("%w: a file of %d bytes", ErrMemory, stat.Size)
	}
	return uint64(stat.Size), nil
}

// mapFile maps more than there is, so that growth needs no new mapping each time.
func (m *memory) mapFile(size uint64) error {
	for _, length := range []uint64{2*size + 64<<20, size} {
		mapped, err := syscall.Mmap(int(m.file.Fd()), 0, int(length), syscall.PROT_READ, syscall.MAP_SHARED)
		if err == nil {
			m.mapped = mapped
			m.base = unsafe.Pointer(&mapped[0])
			m.size.Store(size)
			return nil
		}
		if length == size {
			return fmt.Errorf("holdfast: mapping an arena: %w", err)
		}
	}
	return nil
}

func (m *memory) release() {
	syscall.Munmap(m.mapped)
	m.file.Close()
}

func (m *memory) checkHeader(name string) error {
	header := make([]byte, pageBytes)
	m.copy(header, 0)
	found, _, _ := bytes.Cut(header[headerName:headerName+nameBytes], []byte{0})
	switch {
	case string(header[headerMagic:headerMagic+8]) != layoutMagic:
		return fmt.Errorf("%w: no magic", ErrMemory)
	case binary.LittleEndian.Uint32(header[headerVersion:]) != layoutVersion,
		binary.LittleEndian.Uint64(header[headerIncompatible:]) != 0:
		return fmt.Errorf("%w: of a layout that this reader does not know", ErrMemory)
	case string(found) != name:
		return fmt.Errorf("%w: it is arena %q", ErrMemory, found)
	}
	copy(m.identity[:], header[headerIdentity:])
	m.seed = binary.LittleEndian.Uint64(header[headerSeed:])
	m.generation = binary.LittleEndian.Uint64(header[headerGeneration:])
	return nil
}

// current tells whether the memory is still that of the arena: its daemon is there, has not handed it over, and the
// arena was not dropped.
func (m *memory) current() bool {
	return !m.connection.dead.Load() && m.load32(headerState) == stateLive &&
		m.load64(headerGeneration) == m.generation
}

// outgrown looks whether the file has grown, and tells whether it has grown beyond what is mapped.
func (m *memory) outgrown() bool {
	size, err := m.measure()
	if err != nil || size <= m.size.Load() {
		return false
	}
	if size > uint64(len(m.mapped)) {
		return true
	}
	m.size.Store(size)
	return false
}

// --- plain reads. The caller has checked the range.

func (m *memory) at(offset uint64) unsafe.Pointer {
	return unsafe.Add(m.base, offset)
}

func (m *memory) load64(offset uint64) uint64 {
	return atomic.LoadUint64((*uint64)(m.at(offset)))
}

func (m *memory) load32(offset uint64) uint32 {
	return atomic.LoadUint32((*uint32)(m.at(offset)))
}

// has tells whether so many bytes lie there.
func (m *memory) has(offset, length uint64) bool {
	size := m.size.Load()
	return offset <= size && length <= size-offset
}

// copy copies bytes in motion.
func (m *memory) copy(to []byte, offset uint64) {
	if orderedLoads {
		copy(to, m.mapped[offset:])
		return
	}
	for len(to) > 0 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], m.load64(offset&^7))
		n := copy(to, word[offset%8:])
		to = to[n:]
		offset += uint64(n)
	}
}

// same compares a key in motion; what it says counts only if the checks after it hold.
func (m *memory) same(offset uint64, key string) bool {
	if orderedLoads {
		return string(m.mapped[offset:offset+uint64(len(key))]) == key
	}
	var found [keyMax]byte
	m.copy(found[:len(key)], offset)
	return string(found[:len(key)]) == key
}

func littleEndian() bool {
	word := uint16(1)
	return *(*byte)(unsafe.Pointer(&word)) == 1
}

// --- the index

// level: 2^level <= buckets < 2^(level+1).
func bucketOf(hash, buckets uint64) uint64 {
	level := uint(63 - bits.LeadingZeros64(buckets))
	if number := hash & (uint64(2)<<level - 1); number < buckets {
		return number
	}
	return hash & (uint64(1)<<level - 1)
}

// buckets is how many there are now.
func (m *memory) buckets() (uint64, error) {
	buckets := m.load64(countersBuckets)
	if buckets == 0 || buckets > bucketsMax {
		return 0, errTorn
	}
	return buckets, nil
}

// bucket finds the bucket of that number, below bucketsMax.
func (m *memory) bucket(number uint64) (uint64, error) {
	segment := number / segmentBuckets
	page := uint64(m.load32(headerDirectories + segment/directorySegments*4))
	offset := page*pageBytes + segment%directorySegments*4
	if page == 0 || !m.has(offset, 4) {
		return 0, errBeyond
	}
	page = uint64(m.load32(offset))
	offset = page*pageBytes + number%segmentBuckets*bucketBytes
	if page == 0 || !m.has(offset, bucketBytes) {
		return 0, errBeyond
	}
	return offset, nil
}

// place is an entry that was found, with what is to be the same after its bytes were copied.
type place struct {
	slotAt   uint64
	slot     uint64
	entry    uint64
	revision uint64
	keyBytes uint64
	bytes    uint64 // of the value
}

// entryAt looks at the entry that a slot leads to.
func (m *memory) entryAt(slotAt, slot uint64) (place, error) {
	p := place{slotAt: slotAt, slot: slot, entry: slot & slotEntryMask * 8}
	if !m.has(p.entry, entryHeader) {
		return p, errBeyond
	}
	p.revision = m.load64(p.entry + entryRevision)
	sizes := m.load64(p.entry + entrySizes)
	p.bytes = sizes & 0xffffffff
	p.keyBytes = sizes >> 32 & 0xffff
	if p.revision == 0 || p.keyBytes == 0 || p.keyBytes > keyMax || p.bytes == 0 || p.bytes > valueMax {
		return p, errTorn
	}
	if !m.has(p.entry, entryHeader+p.keyBytes+p.bytes) {
		return p, errBeyond
	}
	return p, nil
}

// holds tells whether the entry is what it was when it was found. Revisions are never given twice, and a block that
// is free or being written has none.
func (m *memory) holds(p *place) bool {
	return m.load64(p.entry+entryRevision) == p.revision && m.load64(p.slotAt) == p.slot
}

// find walks the chain of the key's bucket. ok is false where there is no such key, which counts only where the change
// counter did not move.
func (m *memory) find(key string, hash uint64) (found place, ok bool, err error) {
	buckets, err := m.buckets()
	if err != nil {
		return place{}, false, err
	}
	offset, err := m.bucket(bucketOf(hash, buckets))
	if err != nil {
		return place{}, false, err
	}
	tag := hash >> slotHashShift << slotTagShift
	for chain := 0; offset != 0; chain++ {
		if chain == chainBucketsMax || offset%bucketBytes != 0 {
			return place{}, false, errTorn
		}
		if !m.has(offset, bucketBytes) {
			return place{}, false, errBeyond
		}
		for i := uint64(0); i < bucketSlots; i++ {
			slot := m.load64(offset + i*8)
			if slot == 0 {
				return place{}, false, nil // slots are filled from the front of the chain on
			}
			if slot&^slotEntryMask != tag {
				continue
			}
			p, err := m.entryAt(offset+i*8, slot)
			if err != nil {
				return place{}, false, err
			}
			if p.keyBytes == uint64(len(key)) && m.same(p.entry+entryHeader, key) {
				return p, true, nil
			}
		}
		offset = m.load64(offset + bucketNext)
	}
	return place{}, false, nil
}

// chain appends the slots of a bucket's chain, with where they lie.
func (m *memory) chain(number uint64, to []place) ([]place, error) {
	offset, err := m.bucket(number)
	if err != nil {
		return to, err
	}
	for chain := 0; offset != 0; chain++ {
		if chain == chainBucketsMax || offset%bucketBytes != 0 {
			return to, errTorn
		}
		if !m.has(offset, bucketBytes) {
			return to, errBeyond
		}
		for i := uint64(0); i < bucketSlots; i++ {
			slot := m.load64(offset + i*8)
			if slot == 0 {
				return to, nil
			}
			to = append(to, place{slotAt: offset + i*8, slot: slot})
		}
		offset = m.load64(offset + bucketNext)
	}
	return to, nil
}
