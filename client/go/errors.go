package holdfast

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// What can go wrong without the daemon saying so. They are wrapped with more detail: compare with errors.Is.
var (
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("holdfast: closed")
	// ErrConnectionLost is returned by calls that were waiting when the connection ended; they may have been carried
	// out. The next call connects anew.
	ErrConnectionLost = errors.New("holdfast: connection lost")
	// ErrProtocol is returned where the daemon's reply makes no sense; the connection is closed.
	ErrProtocol = errors.New("holdfast: the daemon's reply makes no sense")
	// ErrTooLarge is returned for a call of more than MessageBytesMax; nothing was sent.
	ErrTooLarge = errors.New("holdfast: message too large")
	// ErrInvalid is returned for arguments that no call can be made of; nothing was sent.
	ErrInvalid = errors.New("holdfast: invalid argument")
	// ErrChanged is returned by Map.Iterate: the arena changed meanwhile.
	ErrChanged = errors.New("holdfast: the arena changed meanwhile")
	// ErrMemory is returned where a file descriptor that was handed out is not the memory of an arena that a reader
	// may rely on.
	ErrMemory = errors.New("holdfast: not the memory of an arena")
)

// ErrorName names an error of the daemon's, of io.holdfast where there is no dot in it. It is an error so that it can
// be the target of errors.Is.
type ErrorName string

// The errors of io.holdfast, and of Varlink, whose names the daemon answers.
const (
	NoSuchArena          ErrorName = "NoSuchArena"
	ArenaExists          ErrorName = "ArenaExists"
	ArenaFull            ErrorName = "ArenaFull"
	ArenaDamaged         ErrorName = "ArenaDamaged"
	NoSuchKey            ErrorName = "NoSuchKey"
	RevisionMismatch     ErrorName = "RevisionMismatch"
	WrongType            ErrorName = "WrongType"
	LimitExceeded        ErrorName = "LimitExceeded"
	NoSuchCheckpoint     ErrorName = "NoSuchCheckpoint"
	CheckpointNeeded     ErrorName = "CheckpointNeeded"
	CheckpointFailed     ErrorName = "CheckpointFailed"
	CheckpointCancelled  ErrorName = "CheckpointCancelled"
	ImageDamaged         ErrorName = "ImageDamaged"
	ReadOnly             ErrorName = "ReadOnly"
	NotDurable           ErrorName = "NotDurable"
	ConfigurationInvalid ErrorName = "ConfigurationInvalid"
	BadMessage           ErrorName = "BadMessage"

	PermissionDenied     ErrorName = "org.varlink.service.PermissionDenied"
	InvalidParameter     ErrorName = "org.varlink.service.InvalidParameter"
	MethodNotFound       ErrorName = "org.varlink.service.MethodNotFound"
	MethodNotImplemented ErrorName = "org.varlink.service.MethodNotImplemented"
	InterfaceNotFound    ErrorName = "org.varlink.service.InterfaceNotFound"
	ExpectedMore         ErrorName = "org.varlink.service.ExpectedMore"
)

// Error returns the full name.
func (n ErrorName) Error() string {
	return fullName(string(n))
}

// Error is what the daemon answered instead of a result.
type Error struct {
	Name       string          // in full: io.holdfast.NoSuchArena
	Parameters json.RawMessage // a JSON object
}

// Error tells the name and the parameters.
func (e *Error) Error() string {
	return fmt.Sprintf("holdfast: the daemon answered %s %s", e.Name, e.Parameters)
}

// Is tells whether the target is an ErrorName that names this error.
func (e *Error) Is(target error) bool {
	name, ok := target.(ErrorName)
	return ok && fullName(string(name)) == e.Name
}

// Decode unpacks the parameters into a struct.
func (e *Error) Decode(into any) error {
	return json.Unmarshal(e.Parameters, into)
}

func fullName(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return "io.holdfast." + name
}
