package holdfast

import (
	"context"
	"os"
)

// Arena is a named region of memory with entries.
type Arena struct {
	Name     string `json:"name"`
	Entries  uint64 `json:"entries"`
	Used     uint64 `json:"usedBytes"`
	Max      uint64 `json:"maxBytes"`
	Revision uint64 `json:"revision"` // of its last change; 0: never changed
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Mode     uint32 `json:"mode"`
	// Microseconds since the Unix epoch.
	CreatedUSec uint64 `json:"createdUSec"`
}

// ArenaOptions say what an arena is to be; nil members are left to the daemon, or as they are.
type ArenaOptions struct {
	MaxBytes *uint64
	Mode     *uint32 // within 0666
	GID      *uint32
}

type arenaCall struct {
	Name     string  `json:"name"`
	MaxBytes *uint64 `json:"maxBytes,omitempty"`
	Mode     *uint32 `json:"mode,omitempty"`
	GID      *uint32 `json:"gid,omitempty"`
}

type arenaReply struct {
	Arena          Arena `json:"arena"`
	FileDescriptor int   `json:"fileDescriptor"`
}

func (c *Client) arenaCall(ctx context.Context, method, name string, o ArenaOptions) (Arena, error) {
	var r arenaReply
	if err := checkTexts(name); err != nil {
		return Arena{}, err
	}
	err := c.Call(ctx, method, arenaCall{name, o.MaxBytes, o.Mode, o.GID}, &r)
	return r.Arena, err
}

// CreateArena makes an arena that belongs to the caller's user.
func (c *Client) CreateArena(ctx context.Context, name string, options ArenaOptions) (Arena, error) {
	return c.arenaCall(ctx, "CreateArena", name, options)
}

// ChangeArena changes what the options name.
func (c *Client) ChangeArena(ctx context.Context, name string, options ArenaOptions) (Arena, error) {
	return c.arenaCall(ctx, "ChangeArena", name, options)
}

// DropArena removes an arena with all that it holds.
func (c *Client) DropArena(ctx context.Context, name string) error {
	_, err := c.arenaCall(ctx, "DropArena", name, ArenaOptions{})
	return err
}

// ListArenas lists all arenas. Those that the caller may not read have a name, an owner and a group, no more.
func (c *Client) ListArenas(ctx context.Context) ([]Arena, error) {
	var r struct {
		Arenas []Arena `json:"arenas"`
	}
	err := c.Call(ctx, "ListArenas", nil, &r)
	return r.Arenas, err
}

// OpenArena returns a read-only file descriptor of the arena's memory, the caller's to close. OpenMap reads it.
func (c *Client) OpenArena(ctx context.Context, name string) (*os.File, Arena, error) {
	_, file, arena, err := c.openArena(ctx, name)
	return file, arena, err
}

// openArena also tells over which connection the arena was opened: while it lives, the memory is that of the arena.
func (c *Client) openArena(ctx context.Context, name string) (*connection, *os.File, Arena, error) {
	var parameters arenaReply
	if err := checkTexts(name); err != nil {
		return nil, nil, Arena{}, err
	}
	connection, r, err := c.callOn(ctx, "OpenArena", arenaCall{Name: name}, true)
	if err != nil {
		return nil, nil, Arena{}, err
	}
	if err := decode(r.Parameters, &parameters); err != nil {
		r.file.Close()
		return nil, nil, Arena{}, err
	}
	if parameters.FileDescriptor != 0 {
		r.file.Close()
		return nil, nil, Arena{}, ErrProtocol
	}
	return connection, r.file, parameters.Arena, nil
}
