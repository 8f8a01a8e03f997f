package holdfast

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// MessageBytesMax is the longest message, of either side.
const MessageBytesMax = 16 << 20

// Descriptors that may come with one message; more are refused by the kernel or by us.
const descriptorsMax = 16

// frameReader takes what the daemon sends apart into messages, which end in NUL, and keeps the descriptors that come
// along, in their order. A message has a limit, and so have the descriptors that wait.
type frameReader struct {
	conn     *net.UnixConn
	buffer   []byte // received, not taken yet: buffer[begin:]
	begin    int
	searched int // of buffer[begin:], has no NUL
	oob      []byte
	files    []*os.File
}

func newFrameReader(conn *net.UnixConn) *frameReader {
	return &frameReader{conn: conn, oob: make([]byte, syscall.CmsgSpace(4*descriptorsMax))}
}

// next returns the next message without its end. It is good until the next call. io.EOF where the connection ends
// between messages.
func (r *frameReader) next() ([]byte, error) {
	for {
		waiting := r.buffer[r.begin:]
		if at := bytes.IndexByte(waiting[r.searched:], 0); at >= 0 {
			end := r.searched + at
			r.begin += end + 1
			r.searched = 0
			return waiting[:end], nil
		}
		r.searched = len(waiting)
		if r.searched > MessageBytesMax {
			return nil, fmt.Errorf("%w: a message of more than %d bytes", ErrProtocol, MessageBytesMax)
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// fill receives something. A buffer that grew for one long message is let go after it.
func (r *frameReader) fill() error {
	if r.begin > 0 {
		left := r.buffer[r.begin:]
		if cap(r.buffer) > 1<<20 && len(left) < 64<<10 {
			r.buffer = append(make([]byte, 0, 128<<10), left...)
		} else {
			r.buffer = r.buffer[:copy(r.buffer, left)]
		}
		r.begin = 0
	}
	if cap(r.buffer)-len(r.buffer) < 32<<10 {
		grown := make([]byte, len(r.buffer), 2*cap(r.buffer)+64<<10)
		copy(grown, r.buffer)
		r.buffer = grown
	}
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(r.buffer[len(r.buffer):cap(r.buffer)], r.oob)
	if oobn > 0 {
		if problem := r.keepFiles(r.oob[:oobn]); problem != nil && err == nil {
			err = problem
		}
	}
	if err == nil && flags&syscall.MSG_CTRUNC != 0 {
		err = fmt.Errorf("%w: more file descriptors than fit", ErrProtocol)
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if errors.Is(err, io.EOF) && len(r.buffer) > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	r.buffer = r.buffer[:len(r.buffer)+n]
	return nil
}

// keepFiles owns each descriptor from the moment it is known, whatever else the message holds.
func (r *frameReader) keepFiles(oob []byte) error {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	for i := range messages {
		descriptors, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials, say
		}
		for _, descriptor := range descriptors {
			r.files = append(r.files, os.NewFile(uintptr(descriptor), "arena"))
		}
	}
	if len(r.files) > descriptorsMax {
		return fmt.Errorf("%w: too many file descriptors", ErrProtocol)
	}
	return nil
}

// takeFile hands over the descriptor that came first.
func (r *frameReader) takeFile() *os.File {
	if len(r.files) == 0 {
		return nil
	}
	file := r.files[0]
	r.files = r.files[1:]
	return file
}

func (r *frameReader) closeFiles() {
	for file := r.takeFile(); file != nil; file = r.takeFile() {
		file.Close()
	}
}

// reply is what a message of the daemon's may hold.
type reply struct {
	Parameters json.RawMessage `json:"parameters"`
	Continues  bool            `json:"continues"`
	Error      string          `json:"error"`
	file       *os.File
}

func parseReply(message []byte) (*reply, error) {
	var r reply
	if err := json.Unmarshal(message, &r); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	if len(r.Parameters) == 0 || string(r.Parameters) == "null" {
		r.Parameters = json.RawMessage("{}")
	}
	if r.Parameters[0] != '{' || r.Error != "" && r.Continues {
		return nil, fmt.Errorf("%w: no reply: %.200q", ErrProtocol, message)
	}
	return &r, nil
}

// encodeCall makes the message of a call, its end included. RawMessages go out as they are, less white space.
func encodeCall(method string, parameters any, more bool) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Method     string `json:"method"`
		More       bool   `json:"more,omitempty"`
		Parameters any    `json:"parameters,omitempty"`
	}{fullName(method), more, parameters})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	message := buffer.Bytes()
	message[len(message)-1] = 0 // was the newline
	if len(message) > MessageBytesMax {
		return nil, fmt.Errorf("%w: a call of %d bytes", ErrTooLarge, len(message))
	}
	return message, nil
}
