package holdfast

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestLaunchedDaemonEndsWithItsContext(t *testing.T) {
	_, directory := launch(t)
	ctx, cancel := context.WithCancel(testContext(t))
	other := filepath.Join(directory, "other")
	daemon, err := Launch(ctx, other)
	check(t, err)
	client := connect(t, daemon)
	status, err := client.GetStatus(ctx)
	check(t, err)
	equal(t, status.PID, daemon.PID(), "pid")
	cancel()
	<-daemon.Done()
	check(t, daemon.Stop())
}

func TestOneDaemonADirectory(t *testing.T) {
	daemon, directory := launch(t)
	_, err := Launch(testContext(t), directory)
	if err == nil || !strings.Contains(err.Error(), "holdfastd ended") {
		t.Fatal(err)
	}
	status, err := connect(t, daemon).GetStatus(testContext(t))
	check(t, err)
	equal(t, status.PID, daemon.PID(), "pid")
}

func TestLaunchSaysWhatIsWrong(t *testing.T) {
	_, directory := launch(t)
	_, err := LaunchOptions{Options: []string{"Journal.Sync=perhaps"}}.Launch(testContext(t), filepath.Join(directory, "x"))
	if err == nil || !strings.Contains(err.Error(), "Sync") {
		t.Fatal(err)
	}
	_, err = LaunchOptions{Program: "/nonexistent/holdfastd"}.Launch(testContext(t), directory)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err = Launch(testContext(t), filepath.Join(directory, strings.Repeat("long", 30))); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// A program that is killed takes its daemon along, and not before.
func TestLaunchedDaemonEndsWithItsProgram(t *testing.T) {
	if directory := os.Getenv("HOLDFAST_TEST_PROGRAM"); directory != "" {
		daemon, err := Launch(context.Background(), directory)
		check(t, err)
		fmt.Println("pid", daemon.PID())
		// Threads come and go meanwhile.
		for i := 0; ; i++ {
			done := make(chan struct{})
			go func() {
				defer close(done)
				exec.Command("/bin/true").Run()
			}()
			<-done
			if i == 20 {
				fmt.Println("ready", alive(daemon.PID()))
			}
		}
	}
	_, directory := launch(t)
	program := exec.Command(os.Args[0], "-test.run=^TestLaunchedDaemonEndsWithItsProgram$")
	program.Env = append(os.Environ(), "HOLDFAST_TEST_PROGRAM="+filepath.Join(directory, "x"))
	output, err := program.StdoutPipe()
	check(t, err)
	check(t, program.Start())
	defer program.Process.Kill()
	var pid, ready string
	_, err = fmt.Fscanf(output, "pid %s\nready %s\n", &pid, &ready)
	check(t, err)
	equal(t, ready, "true", "the daemon runs")
	check(t, program.Process.Signal(syscall.SIGKILL))
	program.Wait()
	number, err := strconv.Atoi(pid)
	check(t, err)
	eventually(t, "the daemon has ended", func() bool { return !alive(number) })
}
