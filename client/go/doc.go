// Package holdfast is the client of holdfast, a daemon that keeps application state in shared memory and writes
// consistent images of it to disk while it goes on applying updates.
//
// A Go program cannot fork to snapshot its own state: only the forking thread would be left in the child. It can keep
// the state in an arena of holdfast and let the daemon fork.
//
//	client, err := holdfast.Connect(ctx, "")
//	_, err = client.CreateArena(ctx, "sessions", holdfast.ArenaOptions{})
//	_, err = client.Put(ctx, "sessions", "ann", json.RawMessage(`{"seen":1}`))
//	_, err = client.TakeCheckpoint(ctx, holdfast.CheckpointOptions{})
//
// Calls go over a Unix socket and may be made by any number of goroutines at once; on one connection they are
// pipelined. Launch starts a daemon of the program's own. OpenMap maps an arena into the program's memory, where reads
// take no system call.
//
// Values are json.RawMessage and come back token for token as they were put, less white space: 0.10 stays 0.10. What
// the methods mean, and which errors they answer, is told by the interface io.holdfast (holdfastctl introspect).
//
// # Errors
//
// What the daemon answers is an *Error with its name and parameters:
//
//	if errors.Is(err, holdfast.NoSuchKey) { ... }
//
//	var answer *holdfast.Error
//	if errors.As(err, &answer) { fmt.Println(answer.Name, string(answer.Parameters)) }
//
// Everything else is about the connection. A call that ended with the context's error or with ErrConnectionLost may
// have been carried out all the same.
package holdfast
