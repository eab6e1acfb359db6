// mqttjs.js - MQTT.js against the gateway: node mqttjs.js CA URL...
//
// What each step does is in README.md beside this file; "VERSION URL step" says that one went well.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const mqtt = require("mqtt");

const [ca, ...urls] = process.argv.slice(2);

class Peer {
  constructor(url, version, clientId, more = {}) {
    this.version = version;
    this.inbox = [];
    this.waiting = [];
    const secret = url.startsWith("mqtts") || url.startsWith("wss");
    this.client = mqtt.connect(url, {
      protocolVersion: version, clientId, reconnectPeriod: 0,
      ...(secret ? { ca: fs.readFileSync(ca) } : {}), ...more,
    });
    this.client.on("error", (error) => { throw error; });
    this.client.on("message", (topic, payload, packet) => {
      const one = { topic, text: payload.toString(), qos: packet.qos, retain: packet.retain,
        properties: packet.properties };
      const next = this.waiting.shift();
      next ? next(one) : this.inbox.push(one);
    });
    this.ready = new Promise((done) => this.client.once("connect", done));
  }

  static async open(...how) {
    const peer = new Peer(...how);
    peer.connack = await peer.ready;
    return peer;
  }

  message() {
    const first = this.inbox.shift();
    return first ? Promise.resolve(first) : new Promise((done) => this.waiting.push(done));
  }

  subscribe(filter, qos) { return this.client.subscribeAsync(filter, { qos }); }
  publish(topic, text, options) { return this.client.publishAsync(topic, text, options); }
  close() { return this.client.endAsync(); }
}

const lasting = (version) =>
  ({ clean: false, ...(version === 5 ? { properties: { sessionExpiryInterval: 600 } } : {}) });

const steps = {
  async qos(url, version, scope) {
    const peer = await Peer.open(url, version, `${scope}-qos`);
    await peer.subscribe(`${scope}/qos`, 2);
    for (const qos of [0, 1, 2]) {
      await peer.publish(`${scope}/qos`, `${qos}`, { qos });
      const one = await peer.message();
      assert.deepStrictEqual([one.text, one.qos, one.retain], [`${qos}`, qos, false]);
    }
    await peer.close();
  },

  async retained(url, version, scope) {
    const peer = await Peer.open(url, version, `${scope}-retained`);
    await peer.publish(`${scope}/kept`, "kept", { qos: 1, retain: true });
    await peer.subscribe(`${scope}/kept`, 1);
    const one = await peer.message();
    assert.deepStrictEqual([one.text, one.retain], ["kept", true]);
    await peer.publish(`${scope}/kept`, "", { qos: 1, retain: true });
    await peer.message();
    await peer.close();
  },

  async will(url, version, scope) {
    const watch = await Peer.open(url, version, `${scope}-watch`);
    await watch.subscribe(`${scope}/will`, 1);
    const will = { topic: `${scope}/will`, payload: Buffer.from("gone"), qos: 1, retain: false };
    const first = await Peer.open(url, version, `${scope}-dying`, { will });
    first.client.on("error", () => {});
    const second = await Peer.open(url, version, `${scope}-dying`);
    assert.strictEqual((await watch.message()).text, "gone");
    await second.close();
    await watch.close();
  },

  async session(url, version, scope) {
    const first = await Peer.open(url, version, `${scope}-session`, lasting(version));
    assert.strictEqual(first.connack.sessionPresent, false);
    await first.subscribe(`${scope}/session`, 2);
    await first.close();
    const sender = await Peer.open(url, version, `${scope}-sender`);
    for (const qos of [1, 2]) {
      await sender.publish(`${scope}/session`, `${qos}`, { qos });
    }
    const again = await Peer.open(url, version, `${scope}-session`, lasting(version));
    assert.strictEqual(again.connack.sessionPresent, true);
    assert.strictEqual((await again.message()).text, "1");
    assert.strictEqual((await again.message()).text, "2");
    await again.close();
    await sender.close();
  },

  async properties(url, version, scope) {
    if (version !== 5) return;
    const peer = await Peer.open(url, version, `${scope}-properties`);
    await peer.subscribe(`${scope}/properties`, 1);
    const properties = {
      contentType: "text/plain", responseTopic: "answers", correlationData: Buffer.from([0, 255]),
      payloadFormatIndicator: true, messageExpiryInterval: 1000,
      userProperties: { a: ["1", "2"], b: "3" },
    };
    await peer.publish(`${scope}/properties`, "x", { qos: 1, properties });
    const got = (await peer.message()).properties;
    for (const name of ["contentType", "responseTopic", "correlationData",
      "payloadFormatIndicator"]) {
      assert.deepStrictEqual(got[name], properties[name]);
    }
    assert.ok(got.messageExpiryInterval > 900 && got.messageExpiryInterval <= 1000);
    assert.deepStrictEqual({ ...got.userProperties }, properties.userProperties);
    await peer.close();
  },
};

(async () => {
  let number = 0;
  for (const url of urls) {
    for (const version of [4, 5]) {
      for (const [name, step] of Object.entries(steps)) {
        await step(url, version, `mqttjs-${++number}`);
        console.log(`${version === 5 ? "5.0" : "3.1.1"} ${url} ${name}`);
      }
    }
  }
})();
