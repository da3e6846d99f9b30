package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/gofrs/flock"
)

// newCluster fills pg.DataDir. initdb takes a second of two cores, a copy of
// its result a twentieth of that, so the result is kept in the tools cache.
func newCluster(pg *PG) error {
	cache, err := cachedCluster(pg)
	if err != nil {
		return err
	}
	if err := copyTree(cache, pg.DataDir, pg.as); err != nil {
		return fmt.Errorf("copying the prepared cluster: %w", err)
	}
	return nil
}

// cachedCluster returns the directory of a prepared cluster for pg's version,
// making it when it is not there. A lock keeps packages tested at the same time
// from making it twice; the rename keeps a half-made one from being used.
func cachedCluster(pg *PG) (string, error) {
	root, err := cacheDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	version, err := exec.Command(pg.Tool("postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", pg.Tool("postgres"), err)
	}
	key := sha256.Sum256([]byte(string(version) + "\x00" + clusterRecipe))
	final := filepath.Join(root, "initdb-"+hex.EncodeToString(key[:6]))

	lock := flock.New(final + ".lock")
	if err := lock.Lock(); err != nil {
		return "", fmt.Errorf("locking the prepared cluster: %w", err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	fresh := filepath.Join(pg.dir, "initdb")
	if err := initdb(pg, fresh); err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	half := final + ".tmp"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := copyTree(fresh, half, nil); err != nil {
		return "", fmt.Errorf("keeping the prepared cluster: %w", err)
	}
	return final, os.Rename(half, final)
}

// clusterRecipe is part of the cache's key: change it when initdb changes.
const clusterRecipe = "2 scram UTF8 C.UTF-8 " + pgPassword

func initdb(pg *PG, dir string) error {
	password := filepath.Join(pg.dir, "password")
	if err := os.WriteFile(password, []byte(pgPassword+"\n"), 0o644); err != nil {
		return err
	}
	defer os.Remove(password)
	cmd := exec.Command(pg.Tool("initdb"), "-D", dir, "-U", pgUser, "--pwfile", password,
		"--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.Dir = pg.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pg.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// serverAccount is whom PostgreSQL runs as: ourselves, unless we are root.
func serverAccount() (*account, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &account{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errNoAccount
}

// copyTree copies a tree of directories and plain files with their modes, and
// gives the copy to owner (nil: us).
func copyTree(from, to string, owner *account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if entry.IsDir() {
			err = os.Mkdir(target, info.Mode().Perm())
		} else {
			err = copyFile(path, target, info.Mode().Perm())
		}
		if err != nil || owner == nil {
			return err
		}
		return os.Chown(target, int(owner.Uid), int(owner.Gid))
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
