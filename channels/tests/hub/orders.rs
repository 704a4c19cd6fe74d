//! Commands for devices, as another module of the hub sends them.

use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::{Link, Message};
use longshore_codec::{Property, QoS, SubscribeOptions};
use serde_json::{Value, json};

use super::rig::{Heard, Made, Rig, bytes, connect, device, position, rest_of, say};

struct Commands {
    link: Link,
    heard: Heard,
    topic: String,
    response: String,
}

impl Commands {
    fn new(rig: &Rig, channel: &Made) -> Self {
        let path = format!("GET /gw/channels/{}/connections/all", channel.id);
        let id = rig.until("somebody is connected", |rig| {
            rig.result(&path, Value::Null).first().map(|it| it["id"].clone())
        });
        let of = |kind: &str| format!("flespi/{kind}/gw/channels/{}/{id}", channel.id);
        let heard = rig.subscribe(&rig.key, &of("response"));
        Self {
            link: rig.context.link("other"),
            heard,
            topic: of("command"),
            response: of("response"),
        }
    }

    fn send(&self, command: &Value) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.publish(command));
    }

    async fn publish(&self, command: &Value) {
        let message = Message::new(&self.topic, command.to_string()).qos(QoS::AtLeastOnce);
        let sent = self.link.publish(message.of_account(ROOT_ACCOUNT)).await.unwrap();
        assert!(!sent.reason.is_error(), "{sent:?}");
    }

    fn answer(&self) -> Value {
        self.heard.next_of(&self.response)
    }

    /// How a connection of this channel has ended, as whoever follows connections hears it.
    fn ended(&self, channel: &Made, by: &Value) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let filter = format!("flespi/state/gw/channels/{}/connections/+", channel.id);
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let mut states = self.link.subscribe(&filter, options).await.unwrap();
            self.publish(by).await;
            loop {
                let state = states.recv().await.unwrap();
                if state.payload.is_empty() {
                    let ended = state.properties().iter().find_map(|it| match it {
                        Ok(Property::UserProperty("ended", json)) => Some(json.to_owned()),
                        _ => None,
                    });
                    return serde_json::from_str(&ended.unwrap()).unwrap();
                }
            }
        })
    }
}

/// R12.7, and the topics of commands.
#[test]
fn a_command_reaches_the_device_and_its_answer_comes_back() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("teltonika", json!({}));
    let mut device = connect(channel.address);
    say(&mut device, &bytes("000F333536333037303432343431303133"), 1);
    let commands = Commands::new(&rig, &channel);
    let order = "000000000000000F0C010500000007676574696E666F0100004312";
    let getinfo = |id: u64| json!({"id": id, "name": "custom", "properties": {"text": "getinfo"}});
    commands.send(&getinfo(1));
    commands.send(&getinfo(2));
    let mut told = vec![0; order.len() / 2];
    device.read_exact(&mut told).unwrap();
    assert_eq!(told, bytes(order));
    let answer = "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A3020\
                  41494E323A313639323420444F313A3020444F323A3101000066E3";
    // The second one is sent once the first one is answered.
    let told = say(&mut device, &bytes(answer), order.len() / 2);
    assert_eq!(told, bytes(order));
    let text = "DI1:1 DI2:0 DI3:0 AIN1:0 AIN2:16924 DO1:0 DO2:1";
    let want = json!({"id": 1, "status": "answered", "response": text, "error": null});
    assert_eq!(commands.answer(), want);
    drop(device);
    let ended = commands.answer();
    assert_eq!((&ended["id"], &ended["status"]), (&json!(2), &json!("failed")));
    commands.send(&getinfo(3));
    assert_eq!(commands.answer()["status"], "failed", "it has gone");
}

/// R11.7.
#[test]
fn a_command_without_an_answer_is_sent_and_a_wrong_one_says_why() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut device = device(channel.address, "told");
    let commands = Commands::new(&rig, &channel);
    commands.send(&json!({"id": "a", "name": "custom", "properties": {"text": "reboot"}}));
    let mut told = [0; 8];
    device.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"reboot\r\n");
    let want = json!({"id": "a", "status": "sent", "response": null, "error": null});
    assert_eq!(commands.answer(), want);
    for wrong in [
        json!({"id": 1, "name": "dance"}),
        json!({"id": 2, "name": "custom", "properties": {"txt": "a"}}),
        json!({"id": 3, "name": "custom", "properties": {"text": "a\r\nb"}}),
        json!("?"),
    ] {
        commands.send(&wrong);
        let answer = commands.answer();
        assert_eq!((&answer["id"], &answer["status"]), (&wrong["id"], &json!("failed")));
        assert!(answer["error"].is_string(), "{answer}");
    }
    commands.send(&json!({"id": 5, "name": "driver_message", "properties": {"text": "come"}}));
    let mut told = [0; 9];
    device.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"#M#come\r\n");
    device.write_all(b"#AM#1\r\n").unwrap();
    assert_eq!(commands.answer()["status"], "answered");
    position(&mut device);
}

/// R5.1, R5.2: whoever sent it has been told by then that it failed.
#[test]
fn a_command_is_neither_sent_nor_waited_for_after_its_deadline() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut device = device(channel.address, "told");
    let commands = Commands::new(&rig, &channel);
    let message = |id: u64, text: &str| {
        let properties = json!({"text": text});
        json!({"id": id, "name": "driver_message", "properties": properties})
    };
    let until = |mut command: Value, millis: u64| {
        let deadline = SystemTime::now() + Duration::from_millis(millis);
        let since = deadline.duration_since(UNIX_EPOCH).unwrap();
        command["deadline"] = json!(u64::try_from(since.as_micros()).unwrap());
        command
    };
    // Long enough for all of them to be sent meanwhile.
    commands.send(&until(message(1, "unanswered"), 6_000));
    commands.send(&until(message(2, "late"), 1));
    commands.send(&message(3, "next"));
    commands.send(&json!({"id": 4, "name": "custom", "properties": {"text": "reboot"}}));
    let want = "#M#unanswered\r\nreboot\r\n#M#next\r\n";
    let mut told = vec![0; want.len()];
    device.read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), want);
    device.write_all(b"#AM#1\r\n").unwrap();
    let mut fates: Vec<_> = (0..4)
        .map(|_| {
            let answer = commands.answer();
            (answer["id"].as_u64().unwrap(), answer["status"].as_str().unwrap().to_owned())
        })
        .collect();
    fates.sort();
    let want = [(1, "failed"), (2, "failed"), (3, "answered"), (4, "sent")];
    assert_eq!(fates, want.map(|(id, status)| (id, status.to_owned())));
}

/// R8.8: for a device that is disabled, and for a user.
#[test]
fn another_module_has_connections_closed() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    for code in [23, 10] {
        let mut device = device(channel.address, "told");
        let commands = Commands::new(&rig, &channel);
        for wrong in [json!({"close": 7}), json!({"id": 1, "close": "now"})] {
            commands.send(&wrong);
            assert_eq!(commands.answer()["error"], "close is 10 or 23");
        }
        let ended = commands.ended(&channel, &json!({"close": code}));
        assert_eq!((&ended["close_code"], &ended["msgs"]), (&json!(code), &json!(0)), "{ended}");
        assert_eq!(rest_of(&mut device), b"");
        rig.until("it is in the log", |rig| {
            let log = rig.log(channel.id, 102, 1);
            log.iter().any(|it| it["close_code"] == code).then_some(())
        });
        commands.send(&json!({"close": code}));
    }
}
