package holdfast

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestValuesComeBackTokenForToken(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	for _, value := range []string{"0.10", "1e2", "-0", `"<&> \u0041 ünï\\"`, `{"b":[1,2.50,null],"a":{}}`, "null", "[]",
		"9223372036854775807", `"\u2028"`} {
		revision := put(t, client, "k", value)
		found, at, err := client.Get(ctx, "a", "k")
		check(t, err)
		equal(t, string(found), value, "value")
		equal(t, at, revision, "revision")
	}
	_, err := client.Put(ctx, "a", "k", nil)
	check(t, err)
	found, _, err := client.Get(ctx, "a", "k")
	check(t, err)
	equal(t, string(found), "null", "nil")
}

func TestErrorsHaveNameAndParameters(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	_, _, err := client.Get(ctx, "a", "none")
	if !errors.Is(err, NoSuchKey) || errors.Is(err, NoSuchArena) {
		t.Fatal(err)
	}
	var answered *Error
	if !errors.As(err, &answered) {
		t.Fatal(err)
	}
	equal(t, answered.Name, "io.holdfast.NoSuchKey", "name")
	var parameters struct{ Arena, Key string }
	check(t, answered.Decode(&parameters))
	equal(t, parameters.Arena+" "+parameters.Key, "a none", "parameters")

	revision := put(t, client, "k", "1")
	if _, err = client.Put(ctx, "a", "k", json.RawMessage("2"), IfRevision(0)); !errors.Is(err, RevisionMismatch) {
		t.Fatal(err)
	}
	_, err = client.Put(ctx, "a", "k", json.RawMessage("2"), IfRevision(revision))
	check(t, err)
	if err = client.Call(ctx, "NoSuchMethod", nil, nil); !errors.Is(err, MethodNotFound) {
		t.Fatal(err)
	}
}

func TestWhatIsNoCallIsNotSent(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	_, err := client.Put(ctx, "a", "k", json.RawMessage("{no json"))
	if !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	if _, err = client.Put(ctx, "a", "k\xff", nil); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	big := json.RawMessage(`"` + strings.Repeat("x", MessageBytesMax) + `"`)
	if _, err = client.Put(ctx, "a", "k", big); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	put(t, client, "k", "1")
}

func TestUpdates(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	put(t, client, "k", `{"a":1,"b":0.10}`)
	value, _, err := client.Merge(ctx, "a", "k", json.RawMessage(`{"a":null,"c":[]}`))
	check(t, err)
	equal(t, string(value), `{"b":0.10,"c":[]}`, "merged")
	sum, _, err := client.Increment(ctx, "a", "n", -3)
	check(t, err)
	equal(t, sum, -3, "sum")
	sum, _, err = client.Increment(ctx, "a", "n", 0)
	check(t, err)
	equal(t, sum, -3, "sum with nothing added")
	revision, err := client.Apply(ctx, "a", PutOperation("x", json.RawMessage("1"), IfRevision(0)),
		IncrementOperation("x", 2), MergeOperation("k", json.RawMessage(`{"b":null}`)), DeleteOperation("n"))
	check(t, err)
	entries, at, err := client.GetMany(ctx, "a", "x", "k", "n")
	check(t, err)
	equal(t, at, revision, "the arena's revision")
	equal(t, fmt.Sprintf("%d %s %d %s", len(entries), entries[0].Value, entries[0].Revision, entries[1].Value),
		fmt.Sprintf(`2 3 %d {"c":[]}`, revision), "entries")
	_, err = client.Delete(ctx, "a", "x", IfRevision(revision))
	check(t, err)
	if _, err = client.Delete(ctx, "a", "x"); !errors.Is(err, NoSuchKey) {
		t.Fatal(err)
	}
}

func TestListing(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	var operations []Operation
	for i := 0; i < 2500; i++ {
		operations = append(operations, PutOperation(fmt.Sprintf("%c%04d", 'a'+i%2, i), json.RawMessage("1")))
	}
	_, err := client.Apply(ctx, "a", operations...)
	check(t, err)
	seen := map[string]bool{}
	check(t, client.ListAll(ctx, "a", ListOptions{}, func(entry Entry) error {
		equal(t, string(entry.Value), "1", "value")
		seen[entry.Key] = true
		return nil
	}))
	equal(t, len(seen), 2500, "streamed")
	seen, cursor, pages := map[string]bool{}, "", 0
	for more := true; more; more = cursor != "" {
		var entries []Entry
		entries, cursor, err = client.List(ctx, "a", ListOptions{Prefix: "b", KeysOnly: true, Limit: 100, Cursor: cursor})
		check(t, err)
		for _, entry := range entries {
			if entry.Value != nil {
				t.Fatalf("a value: %s", entry.Value)
			}
			seen[entry.Key] = true
		}
		pages++
	}
	equal(t, len(seen), 1250, "listed by pages")
	if pages < 12 {
		t.Fatalf("%d pages", pages)
	}
	enough := errors.New("enough")
	err = client.ListAll(ctx, "a", ListOptions{}, func(Entry) error { return enough })
	if err != enough {
		t.Fatal(err)
	}
	if err = client.ListAll(ctx, "none", ListOptions{}, nil); !errors.Is(err, NoSuchArena) {
		t.Fatal(err)
	}
}

func TestArenas(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	mode, bytes := uint32(0o640), uint64(8<<20)
	_, err := client.ChangeArena(ctx, "a", ArenaOptions{Mode: &mode, MaxBytes: &bytes})
	check(t, err)
	arenas, err := client.ListArenas(ctx)
	check(t, err)
	equal(t, len(arenas), 1, "number of arenas")
	equal(t, fmt.Sprint(arenas[0].Name, arenas[0].Mode, arenas[0].Max, arenas[0].UID), fmt.Sprint("a", mode, bytes, os.Getuid()),
		"arena")
	if _, err := client.CreateArena(ctx, "a", ArenaOptions{}); !errors.Is(err, ArenaExists) {
		t.Fatal(err)
	}
	check(t, client.DropArena(ctx, "a"))
	arenas, err = client.ListArenas(ctx)
	check(t, err)
	equal(t, len(arenas), 0, "number of arenas")
}

func TestCheckpoints(t *testing.T) {
	client, _, _ := arena(t)
	ctx := testContext(t)
	revision := put(t, client, "k", "1")
	told := 0
	taken, err := client.TakeCheckpoint(ctx,
		CheckpointOptions{Label: "noon", Arenas: []string{"a"}, Progress: func(Checkpoint) { told++ }})
	check(t, err)
	equal(t, fmt.Sprint(taken.State, taken.Label, taken.Arenas), fmt.Sprint("complete", "noon", []string{"a"}),
		"checkpoint")
	equal(t, taken.Revision, revision, "the cut")
	if told == 0 {
		t.Fatal("no progress told")
	}
	verified, err := client.VerifyCheckpoint(ctx, taken.ID, nil)
	check(t, err)
	equal(t, verified.ID, taken.ID, "id")
	put(t, client, "k", "2")
	_, err = client.TakeCheckpoint(ctx, CheckpointOptions{NoWait: true})
	check(t, err)
	eventually(t, "both are complete", func() bool {
		list, err := client.ListCheckpoints(ctx)
		check(t, err)
		return len(list) == 2 && list[0].State == "complete" && list[1].State == "complete"
	})
	if err := client.CancelCheckpoint(ctx, taken.ID); err == nil {
		t.Fatal("a complete checkpoint was cancelled")
	}
	check(t, client.DeleteCheckpoint(ctx, taken.ID))
	if err := client.DeleteCheckpoint(ctx, taken.ID); !errors.Is(err, NoSuchCheckpoint) {
		t.Fatal(err)
	}
}

func TestService(t *testing.T) {
	client, daemon, _ := arena(t)
	ctx := testContext(t)
	status, err := client.GetStatus(ctx)
	check(t, err)
	equal(t, fmt.Sprint(status.PID, status.State, status.Arenas), fmt.Sprint(daemon.PID(), "serving", 1), "status")
	_, err = client.Reload(ctx)
	check(t, err)
	text, err := client.GetMetrics(ctx)
	check(t, err)
	if !strings.HasSuffix(text, "# EOF\n") {
		t.Fatalf("no OpenMetrics: %q", text)
	}
}

// Every method of the interface has its function.
func TestEveryMethodIsThere(t *testing.T) {
	client, _, _ := arena(t)
	var r struct{ Description string }
	check(t, client.Call(testContext(t), "org.varlink.service.GetInterfaceDescription",
		map[string]string{"interface": "io.holdfast"}, &r))
	var source strings.Builder
	for _, name := range []string{"arenas.go", "state.go", "checkpoints.go", "service.go"} {
		text, err := os.ReadFile(name)
		check(t, err)
		source.Write(text)
	}
	methods := regexp.MustCompile(`(?m)^method (\w+)`).FindAllStringSubmatch(r.Description, -1)
	if len(methods) < 20 {
		t.Fatalf("%d methods in %q", len(methods), r.Description)
	}
	for _, method := range methods {
		if !strings.Contains(source.String(), `"`+method[1]+`"`) {
			t.Errorf("no function calls %s", method[1])
		}
	}
}

func TestManyGoroutinesShareAConnection(t *testing.T) {
	client, _, _ := arena(t, "Journal.Sync=never")
	ctx := testContext(t)
	var all sync.WaitGroup
	for g := 0; g < 32; g++ {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			key := fmt.Sprint("k", g)
			for i := int64(1); i <= 100; i++ {
				sum, _, err := client.Increment(ctx, "a", key, 1)
				if err != nil || sum != i {
					t.Errorf("%s: %d, %v where %d was expected", key, sum, err, i)
					return
				}
			}
		}(g)
	}
	all.Wait()
	status, err := client.GetStatus(ctx)
	check(t, err)
	if status.Connections > 3 {
		t.Fatalf("%d connections", status.Connections)
	}
}

func TestAContextThatEndsLeavesTheConnectionUsable(t *testing.T) {
	client, _, _ := arena(t)
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, _, err := client.Get(ctx, "a", "k"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for i := 0; i < 50; i++ {
		ctx, cancel := context.WithTimeout(testContext(t), time.Duration(i)*10*time.Microsecond)
		_, err := client.Put(ctx, "a", "k", json.RawMessage("1"))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	revision := put(t, client, "k", "2")
	value, at, err := client.Get(testContext(t), "a", "k")
	check(t, err)
	equal(t, fmt.Sprint(string(value), at), fmt.Sprint("2", revision), "entry")
}

func TestAClientConnectsAnew(t *testing.T) {
	client, daemon, directory := arena(t)
	put(t, client, "k", "1")
	check(t, daemon.command.Process.Kill())
	<-daemon.Done()
	eventually(t, "the loss is noticed", func() bool {
		_, _, err := client.Get(testContext(t), "a", "k")
		return err != nil
	})
	relaunch(t, directory)
	value, _, err := client.Get(testContext(t), "a", "k")
	check(t, err)
	equal(t, string(value), "1", "value")
	check(t, client.Close())
	if _, _, err := client.Get(testContext(t), "a", "k"); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
