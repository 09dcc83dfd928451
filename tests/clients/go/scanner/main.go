// The loop over bufio.Scanner that people write around net/http, with its limit of 64 KiB a line.
package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"strings"
)

var out = json.NewEncoder(os.Stdout)

func main() {
	request, err := http.NewRequest("GET", os.Args[1], nil)
	check(err)
	if os.Args[2] != "" {
		request.Header.Set("Last-Event-ID", os.Args[2])
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	id := ""
	scanner := bufio.NewScanner(response.Body)
	for scanner.Scan() {
		line := scanner.Text()
		if strings.HasPrefix(line, "id: ") {
			id = strings.TrimPrefix(line, "id: ")
		}
		if strings.HasPrefix(line, "data: ") {
			out.Encode(map[string]string{"data": strings.TrimPrefix(line, "data: "), "id": id})
		}
	}
	check(scanner.Err())
	out.Encode(map[string]bool{"end": true})
}

func check(err error) {
	if err != nil {
		out.Encode(map[string]string{"error": err.Error()})
		os.Exit(1)
	}
}
