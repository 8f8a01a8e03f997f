package holdfast

import (
	"encoding/binary"
	"math/bits"
)

// XXH3 with a seed, 64 bits, as libxxhash's XXH3_64bits_withSeed: what the index of an arena hashes keys with. The
// names of the steps are those of its specification.

const (
	prime32x1 = 0x9E3779B1
	prime32x2 = 0x85EBCA77
	prime32x3 = 0xC2B2AE3D
	prime64x1 = 0x9E3779B185EBCA87
	prime64x2 = 0xC2B2AE3D27D4EB4F
	prime64x3 = 0x165667B19E3779F9
	prime64x4 = 0x85EBCA77C2B2AE63
	prime64x5 = 0x27D4EB2F165667C5

	stripeBytes      = 64
	secretBytes      = 192
	stripesOfABlock  = (secretBytes - stripeBytes) / 8
	bytesOfABlock    = stripesOfABlock * stripeBytes
	secretMidStart   = 3
	secretMidLast    = 136 - 17
	secretMergeStart = 11
	secretLastStart  = secretBytes - stripeBytes - 7
)

var secret = [secretBytes]byte{
	0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
	0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
	0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
	0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
	0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
	0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
	0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
	0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
	0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
	0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
	0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
	0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
}

func hashKey(data []byte, seed uint64) uint64 {
	switch n := len(data); {
	case n > 240:
		return hashLong(data, seed)
	case n > 128:
		return hash129to240(data, seed)
	case n > 16:
		return hash17to128(data, seed)
	case n > 8:
		return hash9to16(data, seed)
	case n >= 4:
		return hash4to8(data, seed)
	case n > 0:
		return hash1to3(data, seed)
	}
	return avalanche64(seed ^ secretAt(56) ^ secretAt(64))
}

func secretAt(at int) uint64 {
	return binary.LittleEndian.Uint64(secret[at:])
}

func avalanche64(h uint64) uint64 {
	h ^= h >> 33
	h *= prime64x2
	h ^= h >> 29
	h *= prime64x3
	return h ^ h>>32
}

func avalanche(h uint64) uint64 {
	h ^= h >> 37
	h *= 0x165667919E3779F9
	return h ^ h>>32
}

func mulFold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

func hash1to3(data []byte, seed uint64) uint64 {
	n := len(data)
	combined := uint32(data[0])<<16 | uint32(data[n>>1])<<24 | uint32(data[n-1]) | uint32(n)<<8
	flip := uint64(binary.LittleEndian.Uint32(secret[0:])^binary.LittleEndian.Uint32(secret[4:])) + seed
	return avalanche64(uint64(combined) ^ flip)
}

func hash4to8(data []byte, seed uint64) uint64 {
	n := len(data)
	seed ^= uint64(bits.ReverseBytes32(uint32(seed))) << 32
	first := binary.LittleEndian.Uint32(data)
	last := binary.LittleEndian.Uint32(data[n-4:])
	h := (uint64(last) + uint64(first)<<32) ^ ((secretAt(8) ^ secretAt(16)) - seed)
	h ^= bits.RotateLeft64(h, 49) ^ bits.RotateLeft64(h, 24)
	h *= 0x9FB21C651E98DF25
	h ^= h>>35 + uint64(n)
	h *= 0x9FB21C651E98DF25
	return h ^ h>>28
}

func hash9to16(data []byte, seed uint64) uint64 {
	n := len(data)
	low := binary.LittleEndian.Uint64(data) ^ ((secretAt(24) ^ secretAt(32)) + seed)
	high := binary.LittleEndian.Uint64(data[n-8:]) ^ ((secretAt(40) ^ secretAt(48)) - seed)
	return avalanche(uint64(n) + bits.ReverseBytes64(low) + high + mulFold(low, high))
}

func mix16(data []byte, at int, seed uint64) uint64 {
	return mulFold(binary.LittleEndian.Uint64(data)^(secretAt(at)+seed),
		binary.LittleEndian.Uint64(data[8:])^(secretAt(at+8)-seed))
}

func hash17to128(data []byte, seed uint64) uint64 {
	n := len(data)
	h := uint64(n) * prime64x1
	// From the outside in: one pair of 16 bytes for each 32 bytes begun.
	for i := (n - 1) / 32; i >= 0; i-- {
		h += mix16(data[16*i:], 32*i, seed)
		h += mix16(data[n-16*(i+1):], 32*i+16, seed)
	}
	return avalanche(h)
}

func hash129to240(data []byte, seed uint64) uint64 {
	n := len(data)
	h := uint64(n) * prime64x1
	for i := 0; i < 8; i++ {
		h += mix16(data[16*i:], 16*i, seed)
	}
	h = avalanche(h)
	for i := 8; i < n/16; i++ {
		h += mix16(data[16*i:], 16*(i-8)+secretMidStart, seed)
	}
	h += mix16(data[n-16:], secretMidLast, seed)
	return avalanche(h)
}

func accumulate(lanes *[8]uint64, data, secret []byte) {
	for i := range lanes {
		value := binary.LittleEndian.Uint64(data[8*i:])
		key := value ^ binary.LittleEndian.Uint64(secret[8*i:])
		lanes[i^1] += value
		lanes[i] += (key & 0xffffffff) * (key >> 32)
	}
}

func scramble(lanes *[8]uint64, secret []byte) {
	for i := range lanes {
		h := lanes[i]
		h ^= h >> 47
		h ^= binary.LittleEndian.Uint64(secret[8*i:])
		lanes[i] = h * prime32x1
	}
}

func hashLong(data []byte, seed uint64) uint64 {
	var own [secretBytes]byte
	for i := 0; i < secretBytes; i += 16 {
		binary.LittleEndian.PutUint64(own[i:], secretAt(i)+seed)
		binary.LittleEndian.PutUint64(own[i+8:], secretAt(i+8)-seed)
	}
	lanes := [8]uint64{prime32x3, prime64x1, prime64x2, prime64x3, prime64x4, prime32x2, prime64x5, prime32x1}
	n := len(data)
	for left := data; ; left = left[bytesOfABlock:] {
		stripes := stripesOfABlock
		if len(left) <= bytesOfABlock {
			stripes = (len(left) - 1) / stripeBytes
		}
		for i := 0; i < stripes; i++ {
			accumulate(&lanes, left[i*stripeBytes:], own[i*8:])
		}
		if len(left) <= bytesOfABlock {
			break
		}
		scramble(&lanes, own[secretBytes-stripeBytes:])
	}
	accumulate(&lanes, data[n-stripeBytes:], own[secretLastStart:])
	h := uint64(n) * prime64x1
	for i := 0; i < 4; i++ {
		h += mulFold(lanes[2*i]^binary.LittleEndian.Uint64(own[secretMergeStart+16*i:]),
			lanes[2*i+1]^binary.LittleEndian.Uint64(own[secretMergeStart+16*i+8:]))
	}
	return avalanche(h)
}
