import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.interceptor.publish.PublishInboundInterceptor;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * HiveMQ CE with an extension that hands each PUBLISH to Apache Kafka's own producer.
 *
 * <p>Program FOLDER SERVERS TOPIC: FOLDER holds conf/config.xml. The PUBACK leaves when the record
 * is in the producer's memory. The makers' own Kafka extension is not free.
 */
public class Program {

    static class Bridge implements ExtensionMain {
        private final String servers;
        private final String topic;
        private KafkaProducer<byte[], byte[]> producer;

        Bridge(String servers, String topic) {
            this.servers = servers;
            this.topic = topic;
        }

        @Override
        public void extensionStart(ExtensionStartInput in, ExtensionStartOutput out) {
            Properties properties = new Properties();
            properties.put("bootstrap.servers", servers);
            properties.put("acks", "all");
            properties.put("compression.type", "lz4");
            properties.put("linger.ms", "10");
            properties.put("batch.size", "500000");
            properties.put("buffer.memory", "67108864");
            producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
            PublishInboundInterceptor each = (input, output) -> {
                byte[] key = input.getClientInformation().getClientId().getBytes(StandardCharsets.UTF_8);
                byte[] value = input.getPublishPacket().getPayload().map(buffer -> {
                    byte[] bytes = new byte[buffer.remaining()];
                    buffer.get(bytes);
                    return bytes;
                }).orElse(null);
                producer.send(new ProducerRecord<>(topic, key, value), (metadata, why) -> {
                    if (why != null) {
                        System.err.println("lost: " + why);
                    }
                });
            };
            Services.initializerRegistry().setClientInitializer(
                    (input, context) -> context.addPublishInboundInterceptor(each));
        }

        @Override
        public void extensionStop(ExtensionStopInput in, ExtensionStopOutput out) {
            producer.close();
        }
    }

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        for (String name : new String[] {"data", "extensions"}) {
            Files.createDirectories(folder.resolve(name));
        }
        EmbeddedExtension extension = EmbeddedExtension.builder()
                .withId("kafka").withName("kafka").withVersion("1").withAuthor("millrace")
                .withPriority(0).withStartPriority(1000)
                .withExtensionMain(new Bridge(args[1], args[2])).build();
        EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions"))
                .withEmbeddedExtension(extension).build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        broker.start().join();
        Thread.currentThread().join();
    }
}
