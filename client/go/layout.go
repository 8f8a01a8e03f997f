package holdfast

// The layout of an arena's memory, as include/holdfast/layout.h documents it. Offsets are in bytes.

const (
	layoutVersion = 1
	layoutMagic   = "HFARENA\x00"

	pageBytes = 4096
	keyMax    = 1024
	valueMax  = 8 << 20

	stateLive = 1

	headerMagic        = 0
	headerVersion      = 8
	headerState        = 12
	headerIncompatible = 24
	headerIdentity     = 32
	headerSeed         = 48
	headerGeneration   = 64
	headerName         = 88
	headerChange       = 256
	headerAbort        = 264
	headerCounters     = 320
	countersRevision   = headerCounters
	countersEntries    = headerCounters + 8
	countersBuckets    = headerCounters + 24
	headerDirectories  = 512

	nameBytes = 72

	bucketBytes       = 64
	bucketSlots       = 7
	bucketNext        = 56
	segmentBuckets    = 1024
	directorySegments = 1024
	directories       = 256
	bucketsMax        = 1 << 28
	chainBucketsMax   = (128 + bucketSlots - 1) / bucketSlots

	slotTagShift  = 40
	slotEntryMask = 1<<slotTagShift - 1
	slotHashShift = 6

	entryRevision = 0
	entrySizes    = 8 // value_bytes: 32 bits; key_bytes: 16 bits; flags: 8 bits
	entryHeader   = 16
)
