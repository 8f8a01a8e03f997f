package holdfast

import (
	"context"
	"encoding/json"
)

// Entry is one entry of an arena.
type Entry struct {
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"` // nil where only keys were asked for
	Revision uint64          `json:"revision"`
}

// Condition is what must hold for an update to be applied; IfRevision makes one.
type Condition struct {
	revision uint64
}

// IfRevision has an update applied only if the entry's revision is this; 0: only if there is no such entry. Else the
// daemon answers RevisionMismatch.
func IfRevision(revision uint64) Condition {
	return Condition{revision}
}

// condition: the last one counts.
func condition(conditions []Condition) *uint64 {
	if len(conditions) == 0 {
		return nil
	}
	revision := conditions[len(conditions)-1].revision
	return &revision
}

var null = json.RawMessage("null")

// orNull: a RawMessage that holds nothing would be no JSON.
func orNull(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return null
	}
	return value
}

type keyCall struct {
	Arena      string          `json:"arena"`
	Key        string          `json:"key"`
	Value      json.RawMessage `json:"value,omitempty"`
	Patch      json.RawMessage `json:"patch,omitempty"`
	By         *int64          `json:"by,omitempty"`
	IfRevision *uint64         `json:"ifRevision,omitempty"`
}

type keyReply struct {
	Value    json.RawMessage `json:"value"`
	Revision uint64          `json:"revision"`
}

func (c *Client) keyCall(ctx context.Context, method string, call keyCall) (keyReply, error) {
	var r keyReply
	if err := checkTexts(call.Arena, call.Key); err != nil {
		return r, err
	}
	err := c.Call(ctx, method, call, &r)
	r.Value = orNull(r.Value)
	return r, err
}

// Put stores a value, one JSON text; nil is JSON's null. It returns the revision that the entry has now.
func (c *Client) Put(ctx context.Context, arena, key string, value json.RawMessage,
	conditions ...Condition) (uint64, error) {
	r, err := c.keyCall(ctx, "Put",
		keyCall{Arena: arena, Key: key, Value: orNull(value), IfRevision: condition(conditions)})
	return r.Revision, err
}

// Get returns an entry's value and revision, or NoSuchKey.
func (c *Client) Get(ctx context.Context, arena, key string) (json.RawMessage, uint64, error) {
	r, err := c.keyCall(ctx, "Get", keyCall{Arena: arena, Key: key})
	if err != nil {
		return nil, 0, err
	}
	return r.Value, r.Revision, nil
}

// GetMany returns the entries there are of these keys, all of one state, and the arena's revision.
func (c *Client) GetMany(ctx context.Context, arena string, keys ...string) ([]Entry, uint64, error) {
	var r struct {
		Entries  []Entry `json:"entries"`
		Revision uint64  `json:"revision"`
	}
	if err := checkTexts(append([]string{arena}, keys...)...); err != nil {
		return nil, 0, err
	}
	if keys == nil {
		keys = []string{}
	}
	err := c.Call(ctx, "GetMany", struct {
		Arena string   `json:"arena"`
		Keys  []string `json:"keys"`
	}{arena, keys}, &r)
	return r.Entries, r.Revision, err
}

// Delete removes an entry and returns the revision of that update, or NoSuchKey.
func (c *Client) Delete(ctx context.Context, arena, key string, conditions ...Condition) (uint64, error) {
	r, err := c.keyCall(ctx, "Delete", keyCall{Arena: arena, Key: key, IfRevision: condition(conditions)})
	return r.Revision, err
}

// Merge applies an RFC 7396 merge patch and returns the value that it made. The entry is made if there is none.
func (c *Client) Merge(ctx context.Context, arena, key string, patch json.RawMessage,
	conditions ...Condition) (json.RawMessage, uint64, error) {
	r, err := c.keyCall(ctx, "Merge",
		keyCall{Arena: arena, Key: key, Patch: orNull(patch), IfRevision: condition(conditions)})
	if err != nil {
		return nil, 0, err
	}
	return r.Value, r.Revision, nil
}

// Increment adds to a value that is an integer and returns the sum. The entry is made, from 0, if there is none.
func (c *Client) Increment(ctx context.Context, arena, key string, by int64,
	conditions ...Condition) (int64, uint64, error) {
	var r struct {
		Value    int64  `json:"value"`
		Revision uint64 `json:"revision"`
	}
	if err := checkTexts(arena, key); err != nil {
		return 0, 0, err
	}
	err := c.Call(ctx, "Increment",
		keyCall{Arena: arena, Key: key, By: &by, IfRevision: condition(conditions)}, &r)
	return r.Value, r.Revision, err
}

// Operation is one operation of an Apply; PutOperation and its like make them.
type Operation struct {
	Op         string          `json:"op"`
	Key        string          `json:"key"`
	Value      json.RawMessage `json:"value,omitempty"`
	By         *int64          `json:"by,omitempty"`
	IfRevision *uint64         `json:"ifRevision,omitempty"`
}

// PutOperation stores a value.
func PutOperation(key string, value json.RawMessage, conditions ...Condition) Operation {
	return Operation{Op: "put", Key: key, Value: orNull(value), IfRevision: condition(conditions)}
}

// DeleteOperation removes an entry.
func DeleteOperation(key string, conditions ...Condition) Operation {
	return Operation{Op: "delete", Key: key, IfRevision: condition(conditions)}
}

// MergeOperation applies an RFC 7396 merge patch.
func MergeOperation(key string, patch json.RawMessage, conditions ...Condition) Operation {
	return Operation{Op: "merge", Key: key, Value: orNull(patch), IfRevision: condition(conditions)}
}

// IncrementOperation adds to an integer.
func IncrementOperation(key string, by int64, conditions ...Condition) Operation {
	return Operation{Op: "increment", Key: key, By: &by, IfRevision: condition(conditions)}
}

// Apply applies all of the operations, in order, each seeing the ones before it, or none of them. All entries touched
// get the one revision that it returns.
func (c *Client) Apply(ctx context.Context, arena string, operations ...Operation) (uint64, error) {
	var r keyReply
	if err := checkTexts(arena); err != nil {
		return 0, err
	}
	for i := range operations {
		if err := checkTexts(operations[i].Key); err != nil {
			return 0, err
		}
	}
	if operations == nil {
		operations = []Operation{}
	}
	err := c.Call(ctx, "Apply", struct {
		Arena      string      `json:"arena"`
		Operations []Operation `json:"operations"`
	}{arena, operations}, &r)
	return r.Revision, err
}

// ListOptions say what is listed. The zero value is everything, with values.
type ListOptions struct {
	Prefix   string
	KeysOnly bool
	Limit    int    // of a page: 1 to 10000; 0 is the daemon's default
	Cursor   string // of the page before; "" is the first page
}

type listCall struct {
	Arena  string  `json:"arena"`
	Prefix *string `json:"prefix,omitempty"`
	Cursor *string `json:"cursor,omitempty"`
	Limit  *int    `json:"limit,omitempty"`
	Values *bool   `json:"values,omitempty"`
}

type listReply struct {
	Entries []Entry `json:"entries"`
	Next    *string `json:"next"`
}

func (o *ListOptions) call(arena string) (listCall, error) {
	call := listCall{Arena: arena}
	if o.Prefix != "" {
		call.Prefix = &o.Prefix
	}
	if o.Cursor != "" {
		call.Cursor = &o.Cursor
	}
	if o.Limit != 0 {
		call.Limit = &o.Limit
	}
	if o.KeysOnly {
		call.Values = new(bool)
	}
	return call, checkTexts(arena, o.Prefix, o.Cursor)
}

// strip: where values were not asked for each is told as null, which could be one.
func (o *ListOptions) strip(entries []Entry) {
	for i := range entries {
		if o.KeysOnly {
			entries[i].Value = nil
		}
	}
}

// List returns one page of the entries, in no order, and the cursor of the next page, "" after the last one. A page may
// be empty and still have a next one. An entry that stays for the whole listing is returned at least once.
func (c *Client) List(ctx context.Context, arena string, options ListOptions) ([]Entry, string, error) {
	var r listReply
	call, err := options.call(arena)
	if err == nil {
		err = c.Call(ctx, "List", call, &r)
	}
	if err != nil {
		return nil, "", err
	}
	options.strip(r.Entries)
	if r.Next == nil {
		return r.Entries, "", nil
	}
	return r.Entries, *r.Next, nil
}

// ListAll streams all pages to the function, which ends the listing where it returns an error.
func (c *Client) ListAll(ctx context.Context, arena string, options ListOptions, each func(Entry) error) error {
	call, err := options.call(arena)
	if err != nil {
		return err
	}
	return c.Stream(ctx, "List", call, func(parameters json.RawMessage) error {
		var r listReply
		if err := decode(parameters, &r); err != nil {
			return err
		}
		options.strip(r.Entries)
		for _, entry := range r.Entries {
			if err := each(entry); err != nil {
				return err
			}
		}
		return nil
	})
}
