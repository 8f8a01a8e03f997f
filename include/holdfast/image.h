/* The layout of an image on disk: see the structs below. Integers are little-endian, reserved space is zero.
 *
 *   header    who the image is: id, label, cut, parent
 *   table     all arenas that exist at the cut, and whether this image holds them
 *   blocks    up to 256 pages of one arena each, raw (at a multiple of 4096) or zstd, each with its checksum
 *   index     for each block: arena, place, size, checksum and the runs of pages it holds
 *   footer    of fixed size at the very end: finds and checksums the index, and through it all else
 *
 * Pages that are in no block are zero. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HOLDFAST_IMAGE_MAGIC "HFIMAGE" /* 8 bytes with its NUL */
#define HOLDFAST_IMAGE_VERSION 1
#define HOLDFAST_BLOCK_PAGES 256u
#define HOLDFAST_IMAGE_ID_MAX 48u /* "<cut revision, 20 digits>-<YYYYMMDDThhmmssZ>" */
#define HOLDFAST_LABEL_MAX 64u
