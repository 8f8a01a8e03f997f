package holdfast_test

import (
	"context"
	"encoding/json"
	"fmt"
	"holdfast"
	"log"
	"os"
	"sync"
	"syscall"
)

// A Go program cannot fork to snapshot its own memory. This one keeps its state in an arena, asks for a checkpoint while
// goroutines go on updating it, loses its daemon to a SIGKILL, and reads everything back.
func Example() {
	ctx := context.Background()
	directory, err := os.MkdirTemp("", "holdfast-")
	must(err)
	defer os.RemoveAll(directory)

	// A daemon of the program's own; nothing needs to be installed but its binary.
	daemon, err := holdfast.Launch(ctx, directory)
	must(err)
	client, err := daemon.Connect(ctx)
	must(err)
	_, err = client.CreateArena(ctx, "orders", holdfast.ArenaOptions{})
	must(err)

	// Four goroutines update the state and do not stop for the checkpoint.
	var updates sync.WaitGroup
	for g := 0; g < 4; g++ {
		updates.Add(1)
		go func(g int) {
			defer updates.Done()
			for i := 0; i < 100; i++ {
				// One step: a new order, and one less in stock.
				_, err := client.Apply(ctx, "orders",
					holdfast.PutOperation(fmt.Sprintf("order:%d-%d", g, i), json.RawMessage(`{"what":"tea"}`)),
					holdfast.IncrementOperation("stock:tea", -1))
				must(err)
			}
		}(g)
	}
	checkpoint, err := client.TakeCheckpoint(ctx, holdfast.CheckpointOptions{Label: "noon"})
	must(err)
	updates.Wait()
	fmt.Println("checkpoint", checkpoint.Label, checkpoint.State)

	// A crash. What was answered is on disk: the image of the checkpoint, and the journal since.
	must(syscall.Kill(daemon.PID(), syscall.SIGKILL))
	<-daemon.Done()

	daemon, err = holdfast.Launch(ctx, directory)
	must(err)
	defer daemon.Stop()
	defer client.Close()

	// Read from shared memory, without a system call. The client has connected anew by itself.
	orders, err := client.OpenMap(ctx, "orders")
	must(err)
	stock, _, err := orders.Get(ctx, "stock:tea", nil)
	must(err)
	count := 0
	_, err = orders.Iterate(ctx, func(holdfast.Entry) error {
		count++
		return nil
	})
	must(err)
	fmt.Printf("stock %s, %d orders\n", stock, count-1)

	// Output:
	// checkpoint noon complete
	// stock -400, 400 orders
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
