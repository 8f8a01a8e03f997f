// Command map reads single entries at random from shared memory, as tests/bench/map.c does, whose arguments, keys and
// output it has:
//
//	map read holdfast SOCKET ENTRIES SECONDS     prints reads a second, and a second of the processor
//
// "map fill" of tests/bench/map.c makes the entries.
package main

import (
	"context"
	"fmt"
	"holdfast"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"
)

// As many reads between two looks at the clock.
const check = 1024

type bench struct {
	m       *holdfast.Map
	entries uint64
	random  uint64
	buffer  []byte
	key     [16]byte
}

func (b *bench) next() uint64 {
	b.random ^= b.random << 13
	b.random ^= b.random >> 7
	b.random ^= b.random << 17
	return b.random % b.entries
}

func (b *bench) read(ctx context.Context, number uint64) {
	value, _, err := b.m.Get(ctx, makeKey(number, &b.key), b.buffer)
	if err != nil {
		log.Fatal(err)
	}
	b.buffer = value
}

// makeKey: "k" and 15 digits.
func makeKey(number uint64, key *[16]byte) string {
	key[0] = 'k'
	for i := len(key) - 1; i > 0; i-- {
		key[i] = byte('0' + number%10)
		number /= 10
	}
	return string(key[:])
}

// cpu is the processor's time that this process took.
func cpu() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func main() {
	if len(os.Args) != 6 || os.Args[1] != "read" || os.Args[2] != "holdfast" {
		fmt.Fprintln(os.Stderr, "usage: map read holdfast SOCKET ENTRIES SECONDS")
		os.Exit(64)
	}
	entries, err := strconv.ParseUint(os.Args[4], 10, 64)
	if err != nil || entries == 0 {
		log.Fatal("entries: ", os.Args[4])
	}
	seconds, err := strconv.ParseFloat(os.Args[5], 64)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client, err := holdfast.Connect(ctx, os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	m, err := client.OpenMap(ctx, "bench")
	if err != nil {
		log.Fatal(err)
	}
	b := &bench{m: m, entries: entries, random: uint64(time.Now().UnixNano()) | 1}
	for at := uint64(0); at < entries; at++ {
		b.read(ctx, at)
	}
	count, took, begin := 0, 0.0, time.Now()
	used := cpu()
	for took < seconds {
		for i := 0; i < check; i++ {
			b.read(ctx, b.next())
		}
		count += check
		took = time.Since(begin).Seconds()
	}
	fmt.Printf("%.0f %.0f\n", float64(count)/took, float64(count)/(cpu()-used))
}
