package holdfast

import "context"

// Command is the command that was run last after a checkpoint.
type Command struct {
	PID          int    `json:"pid"` // 0: it has ended
	Checkpoint   string `json:"checkpoint"`
	StartedUSec  uint64 `json:"startedUSec"`
	DurationUSec uint64 `json:"durationUSec"`
	ExitStatus   *int   `json:"exitStatus"`
	Signal       *int   `json:"signal"`
}

// Status is how the daemon is.
type Status struct {
	Version              string      `json:"version"`
	PID                  int         `json:"pid"`
	State                string      `json:"state"`  // starting, serving, readonly or stopping
	Reason               string      `json:"reason"` // why updates are refused
	StartedUSec          uint64      `json:"startedUSec"`
	Recovery             string      `json:"recovery"` // empty, image, journal or adopted
	RecoveryDurationUSec uint64      `json:"recoveryDurationUSec"`
	Arenas               uint64      `json:"arenas"`
	Entries              uint64      `json:"entries"`
	UsedBytes            uint64      `json:"usedBytes"`
	Revision             uint64      `json:"revision"`
	DurableRevision      uint64      `json:"durableRevision"` // newest revision known to be on stable storage
	Connections          uint64      `json:"connections"`
	Updates              uint64      `json:"updates"`
	Reads                uint64      `json:"reads"`
	LastCheckpoint       *Checkpoint `json:"lastCheckpoint"`
	RunningCheckpoint    *Checkpoint `json:"runningCheckpoint"`
	AfterCommand         *Command    `json:"afterCommand"`
}

// GetStatus tells how the daemon is.
func (c *Client) GetStatus(ctx context.Context) (Status, error) {
	var r struct {
		Status Status `json:"status"`
	}
	err := c.Call(ctx, "GetStatus", nil, &r)
	return r.Status, err
}

// Reload has the configuration read again, and returns the keys that cannot change while the daemon runs.
func (c *Client) Reload(ctx context.Context) ([]string, error) {
	var r struct {
		Ignored []string `json:"ignored"`
	}
	err := c.Call(ctx, "Reload", nil, &r)
	return r.Ignored, err
}

// GetMetrics returns what the daemon counts and measures, as OpenMetrics text.
func (c *Client) GetMetrics(ctx context.Context) (string, error) {
	var r struct {
		Text string `json:"text"`
	}
	err := c.Call(ctx, "GetMetrics", nil, &r)
	return r.Text, err
}
