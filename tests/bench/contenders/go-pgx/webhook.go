// The sample with net/http and the connection pool of pgx, which prepares each
// statement once per connection.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"

	"github.com/jackc/pgx/v4/pgxpool"
)

const record = `
	WITH inserted AS (
		INSERT INTO webhook_events (task_id, status, payload)
		VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
		RETURNING task_id
	)
	SELECT pg_notify('webhook_events', task_id) FROM inserted`

type update struct {
	TaskID string `json:"task_id"`
	Status string `json:"status"`
}

type receiver struct {
	pool   *pgxpool.Pool
	secret []byte
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// verify compares in constant time.
func (r *receiver) verify(body []byte, signature string) bool {
	given, err := hex.DecodeString(signature)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, r.secret)
	mac.Write(body)
	return hmac.Equal(given, mac.Sum(nil))
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	if !r.verify(body, request.Header.Get("X-Signature")) {
		answer(w, http.StatusUnauthorized, `{"error":"Invalid signature"}`)
		return
	}
	var u update
	if json.Unmarshal(body, &u) != nil {
		answer(w, http.StatusBadRequest, `{"error":"Invalid body"}`)
		return
	}
	if _, err := r.pool.Exec(request.Context(), record, u.TaskID, u.Status, string(body)); err != nil {
		log.Print(err)
		answer(w, http.StatusServiceUnavailable, `{"error":"Not recorded"}`)
		return
	}
	answer(w, http.StatusOK, `{"received":true}`)
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE"))
	if err != nil {
		log.Fatal(err)
	}
	connections, err := strconv.Atoi(os.Getenv("CONNECTIONS"))
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = int32(connections)
	config.MinConns = config.MaxConns
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/webhook", &receiver{pool, []byte(os.Getenv("WEBHOOK_SECRET"))})
	address := "127.0.0.1:" + os.Getenv("PORT")
	if certificate := os.Getenv("CERTIFICATE"); certificate != "" {
		log.Fatal(http.ListenAndServeTLS(address, certificate, os.Getenv("KEY"), nil))
	}
	log.Fatal(http.ListenAndServe(address, nil))
}
