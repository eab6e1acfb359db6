// benthos - the stream processor with an MQTT input and a Kafka output of ours.
//
// The distribution that carries such components is not free software and not used here; the engine
// is.  These two are as small as they can be on the libraries that the distribution uses: every
// message is acknowledged to the broker when Kafka has it (at least once).
package main

import (
	"context"
	"errors"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ---- mqtt: one subscription, QoS 1, a session that stays ----

type mqttInput struct {
	url, topic, clientID string
	messages             chan paho.Message
	client               paho.Client
}

func mqttSpec() *service.ConfigSpec {
	return service.NewConfigSpec().Fields(service.NewStringField("url"),
		service.NewStringField("topic"), service.NewStringField("client_id"))
}

func newMQTTInput(conf *service.ParsedConfig, _ *service.Resources) (service.Input, error) {
	in := &mqttInput{messages: make(chan paho.Message, 1000)}
	for field, into := range map[string]*string{
		"url": &in.url, "topic": &in.topic, "client_id": &in.clientID,
	} {
		text, err := conf.FieldString(field)
		if err != nil {
			return nil, err
		}
		*into = text
	}
	return service.AutoRetryNacks(in), nil
}

func (in *mqttInput) Connect(context.Context) error {
	options := paho.NewClientOptions().AddBroker(in.url).SetClientID(in.clientID).
		SetCleanSession(false).SetAutoAckDisabled(true).SetAutoReconnect(false)
	in.client = paho.NewClient(options)
	if token := in.client.Connect(); token.Wait() && token.Error() != nil {
		return token.Error()
	}
	token := in.client.Subscribe(in.topic, 1, func(_ paho.Client, message paho.Message) {
		in.messages <- message
	})
	token.Wait()
	return token.Error()
}

func (in *mqttInput) Read(ctx context.Context) (*service.Message, service.AckFunc, error) {
	select {
	case message := <-in.messages:
		out := service.NewMessage(message.Payload())
		out.MetaSetMut("mqtt_topic", message.Topic())
		return out, func(_ context.Context, err error) error {
			if err == nil {
				message.Ack()
			}
			return nil
		}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func (in *mqttInput) Close(context.Context) error {
	if in.client != nil {
		in.client.Disconnect(100)
	}
	return nil
}

// ---- kafka: batches, written by max_in_flight goroutines at once ----

type kafkaOutput struct {
	servers, topic string
	key            *service.InterpolatedString
	client         *kgo.Client
}

func kafkaSpec() *service.ConfigSpec {
	return service.NewConfigSpec().Fields(service.NewStringField("servers"),
		service.NewStringField("topic"), service.NewInterpolatedStringField("key"),
		service.NewOutputMaxInFlightField(), service.NewBatchPolicyField("batching"))
}

func newKafkaOutput(conf *service.ParsedConfig, _ *service.Resources) (
	service.BatchOutput, service.BatchPolicy, int, error) {
	out := &kafkaOutput{}
	var policy service.BatchPolicy
	var inFlight int
	var errs [5]error
	out.servers, errs[0] = conf.FieldString("servers")
	out.topic, errs[1] = conf.FieldString("topic")
	out.key, errs[2] = conf.FieldInterpolatedString("key")
	inFlight, errs[3] = conf.FieldMaxInFlight()
	policy, errs[4] = conf.FieldBatchPolicy("batching")
	return out, policy, inFlight, errors.Join(errs[:]...)
}

func (out *kafkaOutput) Connect(context.Context) (err error) {
	if out.client == nil {
		out.client, err = kgo.NewClient(kgo.SeedBrokers(out.servers),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerBatchCompression(kgo.Lz4Compression()),
			kgo.ProducerLinger(10*time.Millisecond))
	}
	return err
}

func (out *kafkaOutput) WriteBatch(ctx context.Context, batch service.MessageBatch) error {
	keys := batch.InterpolationExecutor(out.key)
	records := make([]*kgo.Record, 0, len(batch))
	for i, message := range batch {
		value, err := message.AsBytes()
		if err != nil {
			return err
		}
		key, err := keys.TryBytes(i)
		if err != nil {
			return err
		}
		records = append(records, &kgo.Record{Topic: out.topic, Key: key, Value: value})
	}
	return out.client.ProduceSync(ctx, records...).FirstErr()
}

func (out *kafkaOutput) Close(context.Context) error {
	if out.client != nil {
		out.client.Close()
	}
	return nil
}

func main() {
	err := errors.Join(service.RegisterInput("mqtt", mqttSpec(), newMQTTInput),
		service.RegisterBatchOutput("kafka", kafkaSpec(), newKafkaOutput))
	if err != nil {
		panic(err)
	}
	service.RunCLI(context.Background())
}
