package holdfast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A caller waits for room where this much waits to be sent, so that callers cannot outrun the daemon without end.
const unsentBytesMax = MessageBytesMax

// connection is one socket with its two goroutines. Calls of all goroutines are sent in one stream and their replies
// come back in the same order, so a reply belongs to the call that has waited longest.
type connection struct {
	conn *net.UnixConn
	dead atomic.Bool   // nothing more comes; what was handed out over it may be stale
	done chan struct{} // closed once it is dead and everyone who waited was told

	lock     sync.Mutex
	unsent   [][]byte
	bytes    int           // of unsent and of what is being sent
	room     chan struct{} // closed and renewed where bytes became fewer
	wake     chan struct{} // there is something to send
	waiting  []*waiter
	failed   error
	filesDue int // waiters that expect a descriptor
}

// waiter waits for the one reply of a call.
type waiter struct {
	file  bool // a descriptor comes with the reply
	reply chan result
}

type result struct {
	reply *reply
	err   error
}

func dial(ctx context.Context, path string) (*connection, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	c := &connection{
		conn: conn.(*net.UnixConn),
		done: make(chan struct{}),
		room: make(chan struct{}),
		wake: make(chan struct{}, 1),
	}
	go c.send()
	go c.receive()
	return c, nil
}

// call sends a message and waits for its reply. A context that ends leaves the call behind: its reply is dropped when
// it comes.
func (c *connection) call(ctx context.Context, message []byte, file bool) (*reply, error) {
	w := &waiter{file: file, reply: make(chan result, 1)}
	if err := c.enqueue(ctx, message, w); err != nil {
		return nil, err
	}
	select {
	case r := <-w.reply:
		return r.reply, r.err
	case <-ctx.Done():
		go w.discard()
		return nil, fmt.Errorf("holdfast: waiting for the daemon: %w", ctx.Err())
	}
}

// discard closes what comes for a caller who is gone.
func (w *waiter) discard() {
	if r := <-w.reply; r.reply != nil && r.reply.file != nil {
		r.reply.file.Close()
	}
}

func (c *connection) enqueue(ctx context.Context, message []byte, w *waiter) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("holdfast: %w", err)
	}
	c.lock.Lock()
	for c.failed == nil && c.bytes > 0 && c.bytes+len(message) > unsentBytesMax {
		room := c.room
		c.lock.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("holdfast: waiting for room: %w", ctx.Err())
		}
		c.lock.Lock()
	}
	defer c.lock.Unlock()
	if c.failed != nil {
		return c.failed
	}
	c.unsent = append(c.unsent, message)
	c.bytes += len(message)
	c.waiting = append(c.waiting, w)
	if w.file {
		c.filesDue++
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// send writes what gathered, in one system call where the kernel takes it.
func (c *connection) send() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		c.lock.Lock()
		batch := net.Buffers(c.unsent)
		c.unsent = nil
		c.lock.Unlock()
		if len(batch) == 0 {
			continue
		}
		sent, err := batch.WriteTo(c.conn)
		c.lock.Lock()
		c.bytes -= int(sent)
		close(c.room)
		c.room = make(chan struct{})
		c.lock.Unlock()
		if err != nil {
			// What the daemon said before it closed is still to be read; the end of that ends the connection.
			c.conn.CloseWrite()
			return
		}
	}
}

func (c *connection) receive() {
	reader := newFrameReader(c.conn)
	for {
		err := c.receiveOne(reader)
		if err == nil {
			continue
		}
		reader.closeFiles()
		c.fail(connectionError(err))
		return
	}
}

func connectionError(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	return lost(err)
}

func lost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return ErrConnectionLost
	}
	return fmt.Errorf("%w: %v", ErrConnectionLost, err)
}

func (c *connection) receiveOne(reader *frameReader) error {
	message, err := reader.next()
	if err != nil {
		return err
	}
	r, err := parseReply(message)
	if err != nil {
		return err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.waiting) == 0 {
		return fmt.Errorf("%w: a reply to no call", ErrProtocol)
	}
	if r.Continues {
		return fmt.Errorf("%w: a reply that continues where one was asked for", ErrProtocol)
	}
	if len(reader.files) > c.filesDue {
		return fmt.Errorf("%w: a file descriptor that nobody asked for", ErrProtocol)
	}
	w := c.waiting[0]
	if w.file {
		c.filesDue--
		if r.Error == "" {
			if r.file = reader.takeFile(); r.file == nil {
				return fmt.Errorf("%w: no file descriptor", ErrProtocol)
			}
		}
	}
	c.waiting[0] = nil
	c.waiting = c.waiting[1:]
	w.reply <- result{reply: r}
	return nil
}

// fail ends the connection for everyone. The first reason counts.
func (c *connection) fail(err error) {
	c.dead.Store(true)
	c.conn.Close()
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.failed != nil {
		return
	}
	c.failed = err
	for _, w := range c.waiting {
		w.reply <- result{err: err}
	}
	c.waiting, c.unsent = nil, nil
	close(c.room)
	c.room = make(chan struct{})
	close(c.done)
}
