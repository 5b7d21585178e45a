package attack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// programAttacks are on files, uploads, the page, and what people give to the other commands.
func programAttacks() []attack {
	return []attack{
		{name: "M12_broken_rego", what: "64 KB of broken Rego for policy check", remains: "it is told in 5 s of a processor", run: brokenRego},
		{name: "M12_signals", what: "SIGINT and SIGTERM while policy check is at work", remains: "it ends in 2 s", run: checkSignals},
		{name: "L13_file_modes", what: "another user of the machine", remains: "files of records are its owner's alone", run: fileModes},
		{name: "L13_uploads", what: "8 uploads of some MB of gzip at once", remains: "the review server takes the next one", run: uploads},
		{name: "L13_empty_files", what: "a directory of 60,000 empty files", remains: "10 s of a processor", run: emptyFiles},
		{name: "L13_empty_bundle", what: "a bundle of 60,000 empty files", remains: "10 s of a processor", run: emptyBundle},
		{name: "L13_overview", what: "8 readers of the page's overview, over 30,000 records", remains: "ordinary reviews go on", run: overview},
	}
}

// brokenForms are of 64 KB each.
func brokenForms() map[string]string {
	const size = 64_000
	fill := func(before, unit, after string) string {
		return "package eviction.q\n\n" + before + strings.Repeat(unit, size/len(unit)) + after + "\n"
	}
	return map[string]string{
		"strings that follow each other": fill("p", `"\u0000"`, ""),
		"brackets that are not closed":   fill("p := ", "[", ""),
		"braces that are not closed":     fill("p := ", "{", ""),
		"rules that are none":            fill("", "p :=\n", ""),
		"rules without an if":            fill("", "deny contains x { input.y }\n", ""),
		"unknown functions":              fill("", "p := nope(1)\n", ""),
		"unknown fields":                 fill("", "deny contains 1 if input.pud.x\n", ""),
		"one long line":                  fill("p := 1 + ", "1 + ", "}"),
		"characters that are not UTF-8":  fill("p := \"", "\xff\xfe", "\""),
		"unterminated strings":           fill("", "p := \"\n", ""),
	}
}

// check runs policy check on a text, at most for as long, and returns how it ended and what it took.
func (st *stage) check(text string, most time.Duration) (cmd *exec.Cmd, output []byte) {
	st.Helper()
	file := filepath.Join(st.TempDir(), "q.rego")
	must(st.T, os.WriteFile(file, []byte(text), 0o600))
	return st.run(most, "policy", "check", file)
}

// run runs a command in a box, and ends it after most.
func (st *stage) run(most time.Duration, arguments ...string) (*exec.Cmd, []byte) {
	st.Helper()
	box := newBox(st.T, binary(st.T))
	cmd := exec.Command(box.program, arguments...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	must(st.T, kube.Spawn(cmd))
	timer := time.AfterFunc(most, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	timer.Stop()
	st.row.memory = max(st.row.memory, box.most.Load())
	if n := box.kills(); n > 0 {
		st.Errorf("%d processes were ended for memory", n)
	}
	return cmd, output.Bytes()
}

// cpu is what a command and those that it waited for took.
func cpu(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func brokenRego(st *stage) {
	const most = 5 * time.Second
	forms := brokenForms()
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		text := forms[name]
		st.row.sent++
		cmd, output := st.check(text, 4*most)
		if used := cpu(cmd); used > most || !cmd.ProcessState.Exited() {
			st.Errorf("%s: %s of CPU, %s", name, used.Round(time.Millisecond), cmd.ProcessState)
		}
		if len(output) > 1<<20 {
			st.Errorf("%s: %d bytes of output", name, len(output))
		}
	}
}

// checkSignals interrupts what takes long: broken Rego or, where that is told at once, an honest library twenty times.
func checkSignals(st *stage) {
	dir := st.TempDir()
	must(st.T, os.WriteFile(filepath.Join(dir, "broken.rego"), []byte(brokenForms()["strings that follow each other"]), 0o600))
	for i := range 3000 {
		text := strings.ReplaceAll(laborious, "laborious", fmt.Sprintf("laborious_%d", i))
		must(st.T, os.WriteFile(filepath.Join(dir, fmt.Sprintf("l%d.rego", i)), []byte(text), 0o600))
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		box := newBox(st.T, binary(st.T))
		cmd := exec.Command(box.program, "policy", "check", dir)
		must(st.T, kube.Spawn(cmd))
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		must(st.T, kube.Wait(st.Context(), "policy check to be at work", func(context.Context) (bool, error) {
			select {
			case <-ended:
				return true, nil
			default:
				return busy(box.pid()) > 400*time.Millisecond, nil
			}
		}))
		_ = cmd.Process.Signal(signal)
		select {
		case <-ended:
		case <-time.After(2*time.Second + st.patience()):
			st.Errorf("%s does not end policy check", signal)
			_ = cmd.Process.Kill()
			<-ended
		}
	}
}

// patience is what this machine itself may need for what takes no time: as long as a program takes to start.
func (st *stage) patience() time.Duration {
	began := time.Now()
	_ = exec.Command(binary(st.T), "version").Run()
	return 3 * time.Since(began)
}

// busy is the processor time of a process so far, as far as /proc tells.
func busy(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if err != nil || len(fields) < 13 {
		return 0
	}
	var user, system int64
	_, _ = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// fileModes looks at every file that is left.
func fileModes(st *stage) {
	dir := st.TempDir()
	before := syscall.Umask(0o022)
	defer syscall.Umask(before)
	s := serve(st.T, "--store", "sqlite:"+filepath.Join(dir, "records.db"))
	befriend(s, sampleQuestions())
	s.eventually("records in the store", func(context.Context) (bool, error) {
		return s.sum("evictgate_records_written_total", `output="store"`) > 0, nil
	})
	files := 0
	for _, e := range got(os.ReadDir(dir))(st.T) {
		files++
		if mode := got(e.Info())(st.T).Mode().Perm(); mode&0o077 != 0 {
			st.Errorf("%s has the mode %04o, expected 0600", e.Name(), mode)
		}
	}
	if files == 0 {
		st.Error("there is no file")
	}
	st.lives(s)
}

// sampleRecord is a record as the program writes it.
func (st *stage) sampleRecord() map[string]any {
	st.Helper()
	s := serve(st.T)
	befriend(s, sampleQuestions())
	r := s.records()
	var record map[string]any
	must(st.T, json.Unmarshal(r.last, &record))
	must(st.T, s.signal(syscall.SIGTERM))
	return record
}

// uploads are packed small and large when they are read.
func uploads(st *stage) {
	record := st.sampleRecord()
	dir, address := st.TempDir(), got(kube.FreeAddress())(st.T)
	token := filepath.Join(dir, "token")
	must(st.T, os.WriteFile(token, []byte("a-token-of-the-test"), 0o600))
	s := &subject{T: st.T, box: newBox(st.T, binary(st.T)), log: filepath.Join(dir, "log")}
	cmd := exec.Command(s.box.program, "review", "serve", "--store", "sqlite:"+filepath.Join(dir, "records.db"), "--listen", address, "--token-file", token)
	cmd.Stderr = create(st.T, s.log)
	s.start(cmd)
	send := func(body []byte) (int, error) {
		// Whoever attacks waits for no answer either, and storing what was taken may last on a slow disk.
		ctx, cancel := context.WithTimeout(st.Context(), 20*time.Second)
		defer cancel()
		request := got(http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/logs", bytes.NewReader(body)))(st.T)
		for k, v := range map[string]string{"Authorization": "Bearer a-token-of-the-test", "Content-Type": "application/json", "Content-Encoding": "gzip"} {
			request.Header.Set(k, v)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode, response.Body.Close()
	}
	small := packed(st, func(w io.Writer) { _, _ = w.Write(encode([]any{record})) })
	s.eventually("an upload to be taken", func(context.Context) (bool, error) {
		code, err := send(small)
		return code == http.StatusOK, err
	})
	large := [][]byte{packed(st, func(w io.Writer) { manyLabels(w, record) }), packed(st, func(w io.Writer) { manyRecords(w, record) })}
	for range 2 {
		var sending sync.WaitGroup
		for i := range 8 {
			sending.Go(func() {
				code, err := send(large[i%2])
				st.Logf("an upload of %d bytes: %d %v", len(large[i%2]), code, err)
			})
		}
		sending.Wait()
		st.row.sent += 8
	}
	s.eventually("the next upload to be taken", func(context.Context) (bool, error) {
		code, err := send(small)
		return code == http.StatusOK, fmt.Errorf("it got %d %v", code, err) //nolint:errorlint // nil when there is an answer
	})
	st.lives(s)
}

func packed(st *stage, write func(io.Writer)) []byte {
	st.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(z)
	must(st.T, z.Close())
	return b.Bytes()
}

// unpackedMost is what an upload may have.
const unpackedMost = 31 << 20

// manyLabels is one record with as many labels as go in.
func manyLabels(w io.Writer, record map[string]any) {
	before, after, _ := bytes.Cut(encode(with(record, "labels", map[string]any{"MANY": ""})), []byte(`"MANY":""`))
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }()
	_, _ = fmt.Fprintf(out, "[%s", before)
	for i := range unpackedMost / 14 {
		_, _ = fmt.Fprintf(out, "\"k%07x\":\"\",", i)
	}
	_, _ = fmt.Fprintf(out, "\"k\":\"\"%s]", after)
}

// manyRecords is as many records as go in.
func manyRecords(w io.Writer, record map[string]any) {
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }()
	text := encode(with(record, "decision_id", "MANY"))
	before, after, _ := bytes.Cut(text, []byte("MANY"))
	for i := range unpackedMost / (len(text) + 12) {
		sep := ","
		if i == 0 {
			sep = "["
		}
		_, _ = fmt.Fprintf(out, "%s%smany-%d%s", sep, before, i, after)
	}
	_, _ = out.WriteString("]")
}

// with is a copy with another value.
func with(record map[string]any, key string, value any) map[string]any {
	c := map[string]any{}
	for k, v := range record {
		c[k] = v
	}
	c[key] = value
	return c
}

const (
	emptyCount = 60_000
	emptyMost  = 10 * time.Second
)

func emptyFiles(st *stage) {
	dir := st.TempDir()
	for i := range emptyCount {
		must(st.T, os.WriteFile(filepath.Join(dir, fmt.Sprintf("e%d.rego", i)), nil, 0o600))
	}
	st.row.sent = emptyCount
	cmd, output := st.run(60*time.Second, "policy", "check", dir)
	if used := cpu(cmd); used > emptyMost {
		st.Errorf("%s of CPU, %s; %.300s", used, cmd.ProcessState, output)
	}
}

// emptyBundle wants the bundle to be loaded or refused, and told so.
func emptyBundle(st *stage) {
	raw := packed(st, func(w io.Writer) {
		t := tar.NewWriter(w)
		for i := range emptyCount {
			must(st.T, t.WriteHeader(&tar.Header{Name: fmt.Sprintf("e%d.%s", i, []string{"rego", "yaml"}[i%2]), Mode: 0o600, Typeflag: tar.TypeReg}))
		}
		must(st.T, t.Close())
	})
	st.row.sent = emptyCount
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }))
	st.Cleanup(server.Close)
	s := newSubject(st.T, st.TempDir())
	s.start(s.command(create(st.T, s.stdout), "--policies", "default", "--policies", server.URL+"/bundle.tar.gz"))
	s.eventually("the bundle to be judged", func(context.Context) (bool, error) {
		if busy(s.box.pid()) > emptyMost {
			return true, nil
		}
		if log := s.logged(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "policies loaded") {
			return true, nil
		}
		return false, errors.New(s.logged())
	})
	if used := busy(s.box.pid()); used > emptyMost {
		st.Errorf("%s of CPU, and the bundle is neither loaded nor refused", used)
	}
	st.lives(s)
}

// overview reads a page that sums up all records.
func overview(st *stage) {
	record := st.sampleRecord()
	file := "sqlite:" + filepath.Join(st.TempDir(), "records.db")
	st.fill(file, record, 30_000)
	at := got(kube.FreeAddress())(st.T)
	s := serve(st.T, "--store", file, "--review-listen", at)
	harmless := flood{Kind: "get", Address: s.health, Path: "/healthz", Connections: 8, Every: 50 * time.Millisecond}
	f := harmless
	f.Address, f.Path, f.harmless = at, "/", &harmless
	st.withstands(s, befriend(s, sampleQuestions()), f)
}

// fill stores as many records of the last day.
func (st *stage) fill(url string, sample map[string]any, n int) {
	st.Helper()
	var one record.Record
	must(st.T, json.Unmarshal(encode(sample), &one))
	s := got(store.Open(st.Context(), url, store.Options{}))(st.T)
	begin := time.Now().Add(-24 * time.Hour)
	var batch []record.Record
	for i := range n {
		r := one
		r.DecisionID, r.Timestamp = fmt.Sprintf("filled-%d", i), begin.Add(time.Duration(i)*24*time.Hour/time.Duration(n))
		r.Request.Name = fmt.Sprintf("pod-%d", i%5000)
		if batch = append(batch, r); len(batch) == 1000 || i == n-1 {
			_, err := s.Add(st.Context(), batch)
			must(st.T, err)
			batch = nil
		}
	}
	must(st.T, s.Close())
}
