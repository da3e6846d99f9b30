package perf

import "strconv"

// settingInt is a setting as a number; 0 if it is unknown or none.
func settingInt(settings map[string]string, name string) int64 {
	n, err := strconv.ParseInt(settings[name], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
