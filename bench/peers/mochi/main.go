// mochi - a broker and a Kafka producer in one process: what a team writes in an afternoon.
//
//	mochi PORT SERVERS TOPIC     TOPIC "" is the broker alone
//
// The PUBACK leaves when the record is in the producer's memory: Produce() waits only while that
// is full.  Key: client id.  Compression, linger and acks are those of the other peers.
package main

import (
	"bytes"
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

type kafkaHook struct {
	mqtt.HookBase
	client *kgo.Client
	topic  string
}

func (h *kafkaHook) ID() string { return "kafka" }

func (h *kafkaHook) Provides(b byte) bool {
	return bytes.Contains([]byte{mqtt.OnPublish}, []byte{b})
}

func (h *kafkaHook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	h.client.Produce(context.Background(), &kgo.Record{
		Topic: h.topic,
		Key:   []byte(cl.ID),
		Value: pk.Payload, // allocated for this packet alone
	}, func(_ *kgo.Record, err error) {
		if err != nil {
			log.Printf("lost: %v", err)
		}
	})
	return pk, nil
}

func producer(servers, topic string) *kgo.Client {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(servers),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(10*time.Millisecond),
		kgo.MaxBufferedRecords(100000),
	)
	if err != nil {
		log.Fatalf("Kafka at %s: %v", servers, err)
	}
	return client
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("mochi PORT SERVERS TOPIC")
	}
	port, servers, topic := os.Args[1], os.Args[2], os.Args[3]
	server := mqtt.New(nil)
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		log.Fatal(err)
	}
	if topic != "" {
		client := producer(servers, topic)
		defer client.Close()
		if err := server.AddHook(&kafkaHook{client: client, topic: topic}, nil); err != nil {
			log.Fatal(err)
		}
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:" + port})
	if err := server.AddListener(tcp); err != nil {
		log.Fatalf("port %s: %v", port, err)
	}
	if err := server.Serve(); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	server.Close()
}
