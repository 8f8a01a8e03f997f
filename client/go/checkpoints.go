package holdfast

import (
	"context"
	"encoding/json"
)

// Checkpoint is one checkpoint and its image.
type Checkpoint struct {
	ID           string   `json:"id"`
	Label        string   `json:"label"`
	State        string   `json:"state"`    // running, complete, failed or cancelled
	Revision     uint64   `json:"revision"` // the cut: every update up to it is in the image, none after it
	Arenas       []string `json:"arenas"`
	PID          int      `json:"pid"` // of the process that writes the image; 0: none does
	StartedUSec  uint64   `json:"startedUSec"`
	PauseUSec    uint64   `json:"pauseUSec"` // how long no update could be applied
	HeldUSec     uint64   `json:"heldUSec"`  // how long updates were held back for want of room in the ring
	DurationUSec uint64   `json:"durationUSec"`
	PagesTotal   uint64   `json:"pagesTotal"`
	PagesDone    uint64   `json:"pagesDone"`
	// Pages saved as they were before an update overwrote them.
	PagesCaptured uint64 `json:"pagesCaptured"`
	StateBytes    uint64 `json:"stateBytes"`
	ImageBytes    uint64 `json:"imageBytes"`
	Path          string `json:"path"`   // told to administrators
	Reason        string `json:"reason"` // why it failed
}

// CheckpointOptions say what is saved. The zero value: all arenas, without a label, and wait until it is durable.
type CheckpointOptions struct {
	Arenas []string // nil: all
	Label  string
	NoWait bool // return once the child is forked
	// Progress, if it is set, is told how far it is, at most ten times a second. It has no effect with NoWait.
	Progress func(Checkpoint)
}

type checkpointReply struct {
	Checkpoint Checkpoint `json:"checkpoint"`
}

// TakeCheckpoint has a consistent image of the state written while updates go on.
func (c *Client) TakeCheckpoint(ctx context.Context, options CheckpointOptions) (Checkpoint, error) {
	call := struct {
		Arenas []string `json:"arenas,omitempty"`
		Label  string   `json:"label,omitempty"`
		Wait   bool     `json:"wait"`
	}{options.Arenas, options.Label, !options.NoWait}
	if err := checkTexts(append([]string{options.Label}, options.Arenas...)...); err != nil {
		return Checkpoint{}, err
	}
	if options.NoWait {
		options.Progress = nil
	}
	// Calls on one connection are answered in their order, and this one takes its time: it has its own.
	return c.checkpoint(ctx, "TakeCheckpoint", call, options.Progress)
}

// checkpoint streams, and returns what the last reply tells.
func (c *Client) checkpoint(ctx context.Context, method string, call any,
	progress func(Checkpoint)) (Checkpoint, error) {
	var last checkpointReply
	err := c.Stream(ctx, method, call, func(parameters json.RawMessage) error {
		last = checkpointReply{}
		if err := decode(parameters, &last); err != nil {
			return err
		}
		if progress != nil {
			progress(last.Checkpoint)
		}
		return nil
	})
	if err != nil {
		return Checkpoint{}, err
	}
	return last.Checkpoint, nil
}

// ListCheckpoints lists those whose image is there, those that run, and the last ones that failed.
func (c *Client) ListCheckpoints(ctx context.Context) ([]Checkpoint, error) {
	var r struct {
		Checkpoints []Checkpoint `json:"checkpoints"`
	}
	err := c.Call(ctx, "ListCheckpoints", nil, &r)
	return r.Checkpoints, err
}

type checkpointCall struct {
	ID string `json:"id"`
}

// CancelCheckpoint ends a checkpoint that runs; its image is not kept.
func (c *Client) CancelCheckpoint(ctx context.Context, id string) error {
	if err := checkTexts(id); err != nil {
		return err
	}
	return c.Call(ctx, "CancelCheckpoint", checkpointCall{id}, nil)
}

// DeleteCheckpoint deletes an image that recovery would not need.
func (c *Client) DeleteCheckpoint(ctx context.Context, id string) error {
	if err := checkTexts(id); err != nil {
		return err
	}
	return c.Call(ctx, "DeleteCheckpoint", checkpointCall{id}, nil)
}

// VerifyCheckpoint has the whole image read back and checked. progress may be nil.
func (c *Client) VerifyCheckpoint(ctx context.Context, id string, progress func(Checkpoint)) (Checkpoint, error) {
	if err := checkTexts(id); err != nil {
		return Checkpoint{}, err
	}
	return c.checkpoint(ctx, "VerifyCheckpoint", checkpointCall{id}, progress)
}
