package memory

import (
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
)

func TestTheLimitIsThatOfTheControlGroup(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2, as a container sees itself": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1 << 30},
		"version 2, without a limit": {map[string]string{
			"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 2, a service of systemd": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/evictgate.service\n",
			"sys/fs/cgroup/system.slice/evictgate.service/memory.max": "536870912\n", "sys/fs/cgroup/system.slice/memory.max": "max\n"}, 512 << 20},
		"version 2, the group above has less": {map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1000\n"}, 1000},
		"version 2, the host's path in a container": {map[string]string{
			"proc/self/cgroup": "0::/kubepods/burstable/pod1/c\n", "sys/fs/cgroup/memory.max": "2000\n"}, 2000},
		"version 1, the host's path in a container": {map[string]string{
			"proc/self/cgroup": "11:cpu,cpuacct:/kubepods/pod1/c\n4:memory:/kubepods/pod1/c\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"}, 256 << 20},
		"version 1, nested": {map[string]string{
			"proc/self/cgroup": "4:memory:/slice/a\n", "sys/fs/cgroup/memory/slice/a/memory.limit_in_bytes": "4000\n",
			"sys/fs/cgroup/memory/slice/memory.limit_in_bytes": "3000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 3000},
		"version 1, without a limit": {map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"no /proc":   {map[string]string{"sys/fs/cgroup/memory.max": "77\n"}, 77},
		"nothing":    {nil, 0},
		"a bad file": {map[string]string{"proc/self/cgroup": "0::/\nnonsense\n", "sys/fs/cgroup/memory.max": "-5\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, text := range c.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := Limit(root); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestGarbageCollectionsAreSpaced(t *testing.T) {
	for name, c := range map[string]struct {
		live uint64
		want int
	}{
		"an empty heap":                    {0, 3200},
		"a small cluster":                  {16 << 20, 800},
		"as much as the spacing":           {spacing, 100},
		"a large cluster, as Go's default": {4 << 30, 100},
	} {
		if got := gcPercent(c.live); got != c.want {
			t.Errorf("%s: GOGC %d, want %d", name, got, c.want)
		}
	}
}

// A process and its child together stay within the container.
func TestAChildHasAShareOfTheMemory(t *testing.T) {
	for _, c := range []struct {
		container, most int64
		want            Limits
	}{
		{0, 384, Limits{Child: 384}},
		{1000, 384, Limits{Own: 750, Child: 250}},
		{4000, 384, Limits{Own: 3616, Child: 384}},
	} {
		if got := share(c.container, c.most); got != c.want {
			t.Errorf("of %d, at most %d for the child: %+v, want %+v", c.container, c.most, got, c.want)
		}
	}
}

func TestTheGuardSaysWhenMemoryIsShortAndWhenItIsThereAgain(t *testing.T) {
	var use Use
	var log strings.Builder
	freed := 0
	g := NewGuard(Limits{Own: 1000, Go: 900}, slog.New(slog.NewTextHandler(&log, nil)))
	g.use, g.free = func() Use { return use }, func() { freed++ }
	for _, step := range []struct {
		live, resident int64
		want           Level
	}{
		{live: 500, resident: 500, want: Enough},
		{live: 820, resident: 500, want: Tight},
		{live: 800, resident: 500, want: Tight}, // not yet far enough below
		{live: 500, resident: 975, want: Short},
		{live: 500, resident: 950, want: Short},
		{live: 500, resident: 930, want: Tight},
		{live: 500, resident: 860, want: Enough},
	} {
		use = Use{Live: step.live, Resident: step.resident}
		if g.look(); g.Level() != step.want {
			t.Errorf("%+v: level %d, want %d", use, g.Level(), step.want)
		}
	}
	if freed != 1 {
		t.Errorf("memory was given back %d times within %s, want once", freed, freeEvery)
	}
	for _, want := range []string{"memory is tight", "memory is short", "enough memory again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if (*Guard)(nil).Level() != Enough {
		t.Error("no guard sees a shortage")
	}
}

// What can be freed is freed before anything is refused.
func TestGarbageIsNoShortage(t *testing.T) {
	use := Use{Resident: 990}
	g := NewGuard(Limits{Own: 1000}, slog.New(slog.DiscardHandler))
	g.use, g.free = func() Use { return use }, func() { use.Resident = 100 }
	if g.look(); g.Level() != Enough {
		t.Errorf("level %d", g.Level())
	}
}

func TestTheGuardReadsThisProcess(t *testing.T) {
	held := make([]byte, 8<<20)
	for i := range held {
		held[i] = byte(i)
	}
	use := taken()
	if use.Live < 1<<20 || use.Resident < int64(len(held)) || held[77] != 77 {
		t.Errorf("this process uses %+v", use)
	}
}
