// HiveMq.java - the HiveMQ client against the gateway: java -cp JARS HiveMq.java CA URL...
//
// What each step does is in README.md beside this file; "VERSION URL step" says that one went well.

import com.hivemq.client.mqtt.MqttClientSslConfig;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.MqttWebSocketConfig;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3Client;
import com.hivemq.client.mqtt.mqtt3.message.publish.Mqtt3Publish;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5Client;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperties;
import com.hivemq.client.mqtt.mqtt5.datatypes.Mqtt5UserProperty;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PayloadFormatIndicator;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import java.io.FileInputStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.TrustManagerFactory;

public class HiveMq {
    static final long PATIENCE_S = 30;
    static TrustManagerFactory trust;

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** What both versions of the client have in common, as far as the steps need it. */
    interface Peer {
        boolean open(boolean clean, String willTopic);

        void subscribe(String topic, int qos);

        void publish(String topic, String text, int qos, boolean retain);

        /** The next message, which must have this text. */
        void expect(String text, int qos, boolean retain) throws Exception;

        void close();
    }

    static MqttClientSslConfig secret() {
        return MqttClientSslConfig.builder().trustManagerFactory(trust).build();
    }

    static boolean isSecret(URI url) {
        return url.getScheme().equals("mqtts") || url.getScheme().equals("wss");
    }

    static boolean isWeb(URI url) {
        return url.getScheme().startsWith("ws");
    }

    static MqttWebSocketConfig web(URI url) {
        return MqttWebSocketConfig.builder().serverPath(url.getPath().substring(1)).build();
    }

    static class Three implements Peer {
        final Mqtt3BlockingClient client;
        final Mqtt3BlockingClient.Mqtt3Publishes inbox;

        Three(URI url, String name) {
            var builder = Mqtt3Client.builder().identifier(name).serverHost(url.getHost())
                    .serverPort(url.getPort());
            builder = isSecret(url) ? builder.sslConfig(secret()) : builder;
            client = (isWeb(url) ? builder.webSocketConfig(web(url)) : builder).buildBlocking();
            inbox = client.publishes(MqttGlobalPublishFilter.ALL);
        }

        public boolean open(boolean clean, String willTopic) {
            var connect = client.connectWith().cleanSession(clean);
            if (willTopic != null) {
                connect = connect.willPublish().topic(willTopic).payload(bytes("gone"))
                        .qos(MqttQos.AT_LEAST_ONCE).applyWillPublish();
            }
            return connect.send().isSessionPresent();
        }

        public void subscribe(String topic, int qos) {
            client.subscribeWith().topicFilter(topic).qos(MqttQos.fromCode(qos)).send();
        }

        public void publish(String topic, String text, int qos, boolean retain) {
            client.publishWith().topic(topic).payload(bytes(text)).qos(MqttQos.fromCode(qos))
                    .retain(retain).send();
        }

        public void expect(String text, int qos, boolean retain) throws Exception {
            Mqtt3Publish got = inbox.receive(PATIENCE_S, TimeUnit.SECONDS).orElseThrow();
            check(new String(got.getPayloadAsBytes(), StandardCharsets.UTF_8).equals(text), "text");
            check(got.getQos().getCode() == qos && got.isRetain() == retain, "QoS or RETAIN");
        }

        public void close() {
            client.disconnect();
        }
    }

    static class Five implements Peer {
        final Mqtt5BlockingClient client;
        final Mqtt5BlockingClient.Mqtt5Publishes inbox;

        Five(URI url, String name) {
            var builder = Mqtt5Client.builder().identifier(name).serverHost(url.getHost())
                    .serverPort(url.getPort());
            builder = isSecret(url) ? builder.sslConfig(secret()) : builder;
            client = (isWeb(url) ? builder.webSocketConfig(web(url)) : builder).buildBlocking();
            inbox = client.publishes(MqttGlobalPublishFilter.ALL);
        }

        public boolean open(boolean clean, String willTopic) {
            var connect = client.connectWith().cleanStart(clean)
                    .sessionExpiryInterval(clean ? 0 : 600);
            if (willTopic != null) {
                connect = connect.willPublish().topic(willTopic).payload(bytes("gone"))
                        .qos(MqttQos.AT_LEAST_ONCE).applyWillPublish();
            }
            return connect.send().isSessionPresent();
        }

        public void subscribe(String topic, int qos) {
            client.subscribeWith().topicFilter(topic).qos(MqttQos.fromCode(qos)).send();
        }

        public void publish(String topic, String text, int qos, boolean retain) {
            client.publishWith().topic(topic).payload(bytes(text)).qos(MqttQos.fromCode(qos))
                    .retain(retain).send();
        }

        Mqtt5Publish receive() throws Exception {
            return inbox.receive(PATIENCE_S, TimeUnit.SECONDS).orElseThrow();
        }

        public void expect(String text, int qos, boolean retain) throws Exception {
            Mqtt5Publish got = receive();
            check(new String(got.getPayloadAsBytes(), StandardCharsets.UTF_8).equals(text), "text");
            check(got.getQos().getCode() == qos && got.isRetain() == retain, "QoS or RETAIN");
        }

        public void close() {
            client.disconnect();
        }
    }

    interface Maker {
        Peer make(String name);
    }

    static void qos(Maker maker, String scope) throws Exception {
        Peer peer = maker.make(scope + "-qos");
        peer.open(true, null);
        peer.subscribe(scope, 2);
        for (int qos = 0; qos <= 2; qos++) {
            peer.publish(scope, "" + qos, qos, false);
            peer.expect("" + qos, qos, false);
        }
        peer.close();
    }

    static void retained(Maker maker, String scope) throws Exception {
        Peer peer = maker.make(scope + "-retained");
        peer.open(true, null);
        peer.publish(scope, "kept", 1, true);
        peer.subscribe(scope, 1);
        peer.expect("kept", 1, true);
        peer.publish(scope, "", 1, true);
        peer.expect("", 1, false);
        peer.close();
    }

    static void will(Maker maker, String scope) throws Exception {
        Peer watch = maker.make(scope + "-watch");
        watch.open(true, null);
        watch.subscribe(scope, 1);
        maker.make(scope + "-dying").open(true, scope);
        Peer second = maker.make(scope + "-dying");
        second.open(true, null);
        watch.expect("gone", 1, false);
        second.close();
        watch.close();
    }

    static void session(Maker maker, String scope) throws Exception {
        Peer first = maker.make(scope + "-session");
        check(!first.open(false, null), "no session yet");
        first.subscribe(scope, 2);
        first.close();
        Peer sender = maker.make(scope + "-sender");
        sender.open(true, null);
        sender.publish(scope, "1", 1, false);
        sender.publish(scope, "2", 2, false);
        Peer again = maker.make(scope + "-session");
        check(again.open(false, null), "the session is there");
        again.expect("1", 1, false);
        again.expect("2", 2, false);
        again.close();
        sender.close();
    }

    static void properties(URI url, String scope) throws Exception {
        Five peer = new Five(url, scope + "-properties");
        Mqtt5UserProperties user = Mqtt5UserProperties.of(Mqtt5UserProperty.of("b", "1"),
                Mqtt5UserProperty.of("a", "2"), Mqtt5UserProperty.of("b", "3"));
        peer.open(true, null);
        peer.subscribe(scope, 1);
        peer.client.publishWith().topic(scope).payload(bytes("x")).qos(MqttQos.AT_LEAST_ONCE)
                .contentType("text/plain").responseTopic("answers")
                .correlationData(new byte[] {0, -1})
                .payloadFormatIndicator(Mqtt5PayloadFormatIndicator.UTF_8)
                .messageExpiryInterval(1000).userProperties(user).send();
        Mqtt5Publish got = peer.receive();
        check(got.getContentType().get().toString().equals("text/plain"), "content type");
        check(got.getResponseTopic().get().toString().equals("answers"), "response topic");
        check(got.getCorrelationData().get().equals(ByteBuffer.wrap(new byte[] {0, -1})), "data");
        check(got.getPayloadFormatIndicator().get() == Mqtt5PayloadFormatIndicator.UTF_8, "form");
        check(got.getUserProperties().equals(user), "user properties");
        long left = got.getMessageExpiryInterval().getAsLong();
        check(left > 900 && left <= 1000, "expiry");
        peer.close();
    }

    static void all(String version, URI url, Maker maker, String scope) throws Exception {
        qos(maker, scope + "/1");
        System.out.println(version + " " + url + " qos");
        retained(maker, scope + "/2");
        System.out.println(version + " " + url + " retained");
        will(maker, scope + "/3");
        System.out.println(version + " " + url + " will");
        session(maker, scope + "/4");
        System.out.println(version + " " + url + " session");
        if (version.equals("5.0")) {
            properties(url, scope + "/5");
        }
        System.out.println(version + " " + url + " properties");
    }

    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream in = new FileInputStream(args[0])) {
            store.setCertificateEntry("ca",
                    CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        for (int i = 1; i < args.length; i++) {
            URI url = URI.create(args[i]);
            all("3.1.1", url, name -> new Three(url, name), "hivemq-3-" + i);
            all("5.0", url, name -> new Five(url, name), "hivemq-5-" + i);
        }
        System.exit(0);
    }
}
