package memory

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// unlimited is from where on a limit is none: version 1 writes the largest multiple of a page.
const unlimited = 1 << 60

// Limit is the memory limit of this process's control group in bytes, the smallest of the group and those above
// it; 0 when there is none. Root is the file system's root. Version 1 and version 2 are read, as they are mounted
// usually, in a container that sees only its own group, too.
func Limit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		groups = []byte("0::/\n1:memory:/\n")
	}
	var limit int64
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch group := path.Join("/", fields[2]); {
		case fields[0] == "0" && fields[1] == "":
			limit = smaller(limit, smallest(root, "sys/fs/cgroup", group, "memory.max"))
		case holds(fields[1], "memory"):
			limit = smaller(limit, smallest(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	return limit
}

func holds(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if item == name {
			return true
		}
	}
	return false
}

// smallest walks from a group up to the root of the mount. In a container the path may be the host's: what is not
// there is passed over.
func smallest(root fs.FS, mount, group, file string) int64 {
	var limit int64
	for {
		limit = smaller(limit, read(root, path.Join(mount, group, file)))
		if group == "/" {
			return limit
		}
		group = path.Dir(group)
	}
}

// read is the limit in a file; 0 for "max", and for a file that cannot be read.
func read(root fs.FS, name string) int64 {
	raw, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil || n <= 0 || n >= unlimited {
		return 0
	}
	return n
}

// smaller is the smaller of two limits, of which 0 is none.
func smaller(a, b int64) int64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
