package holdfast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Unix socket's path is no longer than this.
const socketPathMax = 107

// How long a daemon that was told to stop may take before it is killed. Nothing is lost then either: the next start
// takes longer.
const stopDeadline = 30 * time.Second

// Daemon is a holdfastd of the program's own.
type Daemon struct {
	command *exec.Cmd
	socket  string
	started chan error    // of exec, once
	ended   chan struct{} // closed when the process is reaped
	status  error         // of Wait; read it after ended is closed
	log     tail
	stop    context.CancelFunc
}

// LaunchOptions say how the daemon is started. The zero value will do.
type LaunchOptions struct {
	Program string   // "": $HOLDFASTD, else holdfastd on the PATH
	Options []string // for --option=, such as "Journal.Sync=interval"
	Log     io.Writer
}

// Launch starts a holdfastd that keeps its state in the directory (made if it is not there) and listens on
// holdfast.sock in it, and returns when it serves: after its recovery. When the context ends the daemon is stopped; it
// is stopped as well when this program ends, in whatever way. Stop waits for that.
//
// One daemon at a time has the directory; a second one is an error.
func Launch(ctx context.Context, directory string) (*Daemon, error) {
	return LaunchOptions{}.Launch(ctx, directory)
}

// Launch is Launch with options.
func (o LaunchOptions) Launch(ctx context.Context, directory string) (*Daemon, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	d := &Daemon{
		socket:  filepath.Join(directory, "holdfast.sock"),
		started: make(chan error, 1),
		ended:   make(chan struct{}),
		log:     tail{to: o.Log},
	}
	if len(d.socket) > socketPathMax {
		return nil, fmt.Errorf("%w: %s is too long for a socket's path", ErrInvalid, d.socket)
	}
	d.command = exec.Command(program, o.arguments(directory, d.socket)...)
	d.command.Env = environment()
	d.command.Stderr = &d.log
	d.command.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // a terminal's interrupt is the program's to handle, and the daemon's end the program's to decide
		Pdeathsig: syscall.SIGTERM,
	}
	ctx, d.stop = context.WithCancel(ctx)
	go d.run()
	if err := <-d.started; err != nil {
		d.stop()
		return nil, fmt.Errorf("holdfast: %w", err)
	}
	go d.stopAfter(ctx)
	if err := d.waitReady(ctx); err != nil {
		d.Stop()
		return nil, err
	}
	return d, nil
}

func (o *LaunchOptions) program() (string, error) {
	program := o.Program
	if program == "" {
		program = os.Getenv("HOLDFASTD")
	}
	if program == "" {
		program = "holdfastd"
	}
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("holdfast: %w", err)
	}
	return found, nil
}

func (o *LaunchOptions) arguments(directory, socket string) []string {
	// A configuration of the system's is not for a private daemon.
	arguments := []string{"--config=" + os.DevNull, "--state-directory=" + directory, "--socket=" + socket,
		"--option=Server.SocketMode=0600"}
	for _, option := range o.Options {
		arguments = append(arguments, "--option="+option)
	}
	return arguments
}

// environment leaves out what a service manager set for this program and not for the daemon.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case strings.HasPrefix(name, "LISTEN_"), strings.HasPrefix(name, "WATCHDOG_"):
		case name == "NOTIFY_SOCKET", name == "JOURNAL_STREAM", name == "STATE_DIRECTORY",
			name == "CONFIGURATION_DIRECTORY":
		default:
			kept = append(kept, variable)
		}
	}
	return kept
}

// run starts the process and waits for its end, all on one thread: the kernel sends the death signal when the *thread*
// that forked ends, and Go ends threads when it likes, but not one that a goroutine has locked.
func (d *Daemon) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := d.command.Start()
	d.started <- err
	if err == nil {
		d.status = d.command.Wait()
	}
	close(d.ended)
}

func (d *Daemon) stopAfter(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-d.ended:
		return
	}
	d.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-time.After(stopDeadline):
		d.command.Process.Kill()
	case <-d.ended:
	}
}

// waitReady: a daemon opens its socket when its recovery is through, so one that can be connected to serves. The socket
// must be this daemon's, and not of another one that had the directory already: the kernel tells who listens.
func (d *Daemon) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !d.listens() {
		select {
		case <-ticker.C:
		case <-d.ended:
			return fmt.Errorf("holdfast: holdfastd ended: %v: %s", d.status, d.log.String())
		case <-ctx.Done():
			return fmt.Errorf("holdfast: waiting for holdfastd: %w", ctx.Err())
		}
	}
	return nil
}

func (d *Daemon) listens() bool {
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	var peer *syscall.Ucred
	raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return err == nil && peer != nil && int(peer.Pid) == d.PID()
}

// PID is the daemon's process.
func (d *Daemon) PID() int {
	return d.command.Process.Pid
}

// Socket is the path of its socket, for Connect and for other programs of the same user.
func (d *Daemon) Socket() string {
	return d.socket
}

// Connect connects to it.
func (d *Daemon) Connect(ctx context.Context) (*Client, error) {
	return Connect(ctx, d.socket)
}

// Done is closed when the daemon has ended, for whatever reason.
func (d *Daemon) Done() <-chan struct{} {
	return d.ended
}

// Stop stops the daemon and waits for its end. The error is how it ended where that was not as it should.
func (d *Daemon) Stop() error {
	d.stop()
	<-d.ended
	var exit *exec.ExitError
	if errors.As(d.status, &exit) {
		return fmt.Errorf("holdfast: holdfastd ended: %w: %s", exit, d.log.String())
	}
	return d.status
}

// tail keeps the end of what the daemon logs, for error messages, and passes all of it on.
type tail struct {
	to   io.Writer
	lock sync.Mutex
	text []byte
}

const tailBytes = 4096

// Write never fails: the daemon must not be held up by where its log goes.
func (t *tail) Write(text []byte) (int, error) {
	t.lock.Lock()
	t.text = append(t.text, text...)
	if len(t.text) > tailBytes {
		t.text = append([]byte(nil), t.text[len(t.text)-tailBytes:]...)
	}
	t.lock.Unlock()
	if t.to != nil {
		t.to.Write(text)
	}
	return len(text), nil
}

func (t *tail) String() string {
	t.lock.Lock()
	defer t.lock.Unlock()
	return strings.TrimSpace(string(t.text))
}
