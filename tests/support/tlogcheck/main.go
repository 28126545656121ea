// Reads an exported log with Go's own implementation of tiles, proofs and signed notes (the one of the Go checksum
// database), which shares nothing with ours: tlogcheck FOLDER VERIFIER-KEY.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type folder string

func (f folder) Height() int                         { return height }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), path(tile)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

// path is that of C2SP tlog-tiles, which leaves out the height that tlog writes first.
func path(tile tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(tile.Path(), "tile/"+strconv.Itoa(height)+"/")
}

func leaf(f folder, index, size int64) []byte {
	tile := tlog.TileForIndex(height, tlog.StoredHashIndex(0, index))
	tile.W = int(min(256, size-tile.N*256))
	name := "tile/entries/" + strings.TrimPrefix(path(tile), "tile/0/")
	data, err := os.ReadFile(filepath.Join(string(f), name))
	check(err)
	for at := int64(0); at < index%256; at++ {
		data = data[2+binary.BigEndian.Uint16(data):]
	}
	return data[2 : 2+binary.BigEndian.Uint16(data)]
}

func check(err error) {
	if err != nil {
		fmt.Println("does not hold:", err)
		os.Exit(1)
	}
}

func main() {
	f := folder(os.Args[1])
	raw, err := os.ReadFile(filepath.Join(string(f), "checkpoint"))
	check(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(os.Args[2]))
	check(err)
	opened, err := note.Open(raw, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], hash)
	// Reading through it verifies every tile against the tree's hash.
	reader := tlog.TileHashReader(tree, f)
	proven := 0
	for _, index := range []int64{0, 1, size / 3, size / 2, size - 1} {
		if index >= size {
			continue
		}
		proof, err := tlog.ProveRecord(size, index, reader)
		check(err)
		check(tlog.CheckRecord(proof, size, tree.Hash, index, tlog.RecordHash(leaf(f, index, size))))
		proven++
	}
	for _, first := range []int64{1, size / 2, size} {
		if first < 1 {
			continue
		}
		root, err := tlog.TreeHash(first, reader)
		check(err)
		proof, err := tlog.ProveTree(size, first, reader)
		check(err)
		check(tlog.CheckTree(proof, size, tree.Hash, first, root))
		proven++
	}
	fmt.Println("holds:", size, "entries,", proven, "proofs, signed by", opened.Sigs[0].Name)
}
