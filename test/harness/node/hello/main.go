// Command hello is what the test of package node runs in its pods: it serves what a test asks of a container.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// report is what a container sees of itself.
type report struct {
	Hostname, Version string
	PID, UID, GID     int
	RootWritable      bool
	TmpWritable       bool
	HostVisible       bool
	NoNewPrivs        bool
	Env               map[string]string
	Secret            string
	Namespace         string
}

func main() {
	fmt.Println("hello from", os.Args[1])
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	http.HandleFunc("/report", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(look()) })
	http.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/live", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("/tmp/sick"); err == nil {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/fall-sick", func(http.ResponseWriter, *http.Request) { _ = os.WriteFile("/tmp/sick", nil, 0o600) })
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	_ = os.Remove("/tmp/sick") // of an earlier run
	go func() {
		server := &http.Server{Addr: ":8080", ReadHeaderTimeout: time.Second}
		fmt.Println(server.ListenAndServe())
	}()
	<-stop
	fmt.Println("goodbye")
}

func look() report {
	hostname, _ := os.Hostname()
	secret, _ := os.ReadFile("/secret/word")
	namespace, _ := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	_, host := os.Stat("/etc/passwd")
	status, _ := os.ReadFile("/proc/self/status")
	r := report{
		Hostname: hostname, Version: os.Args[1], PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		RootWritable: os.WriteFile("/file", nil, 0o600) == nil, TmpWritable: os.WriteFile("/tmp/file", nil, 0o600) == nil,
		HostVisible: host == nil, NoNewPrivs: strings.Contains(string(status), "NoNewPrivs:\t1"),
		Secret: string(secret), Namespace: string(namespace), Env: map[string]string{},
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		r.Env[name] = value
	}
	return r
}
