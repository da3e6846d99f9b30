package services

import (
	"os"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/storm/kit"
)

var storm = kit.New("services")

func TestMain(m *testing.M) { os.Exit(storm.Main(m)) }
