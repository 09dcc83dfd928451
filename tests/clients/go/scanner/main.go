// The usual loop over net/http with bufio.Scanner, whose limit is 64 KiB a line.
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
	id, data := "", ""
	scanner := bufio.NewScanner(response.Body)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), ": ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			data = value
		case scanner.Text() == "" && data != "":
			out.Encode(map[string]string{"data": data, "id": id})
			data = ""
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
