// The client of github.com/donovanhide/eventsource: reconnects by itself.
package main

import (
	"encoding/json"
	"os"

	"github.com/donovanhide/eventsource"
)

func main() {
	out := json.NewEncoder(os.Stdout)
	stream, err := eventsource.Subscribe(os.Args[1], os.Args[2])
	if err != nil {
		out.Encode(map[string]string{"error": err.Error()})
		os.Exit(1)
	}
	for {
		select {
		case event := <-stream.Events:
			out.Encode(map[string]string{"data": event.Data(), "id": event.Id()})
		case err := <-stream.Errors:
			out.Encode(map[string]string{"error": err.Error()})
		}
	}
}
