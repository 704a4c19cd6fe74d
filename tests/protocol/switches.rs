//! The dialect: a smaller QoS than the standard's greatest, and filters with conditions switched
//! off. What depends on tokens is in `broker/tests/accounts`.

use longshore_codec::QoS;

use super::packets::{connect, publish, pubrel, subscribe, v5, will};
use super::rig::Rig;
use super::wire::{Version, prop};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

fn at_most_once_acknowledged() -> Rig {
    Rig::speaking(|dialect| dialect.max_qos = QoS::AtLeastOnce)
}

/// 12.1, 12.3; [MQTT-3.2.2-9] [MQTT-3.2.2-10]
#[test]
fn a_maximum_qos_of_1_is_told_and_granted() {
    let rig = at_most_once_acknowledged();
    let (_client, connack) = rig.connect_told(&v5("told"));
    assert_eq!(connack.props.number(prop::MAXIMUM_QOS), Some(1));
    for version in BOTH {
        let client = rig.connect(&connect(version, "c"));
        let all = subscribe(1, "a").and("b").qos(1).and("c").qos(2).and("$share/g/d").qos(2);
        assert_eq!(client.subscribe(&all), [0, 1, 1, 1]);
    }
}

/// 12.2, 12.3: gmqtt and luamqtt publish at QoS 2 and take no refusal.
#[test]
fn what_is_published_at_qos_2_is_taken_once_and_goes_out_at_the_maximum() {
    for version in BOTH {
        let rig = at_most_once_acknowledged();
        let reader = rig.connect(&connect(Version::V5, "reader"));
        assert_eq!(reader.subscribe(&subscribe(1, "t").qos(2)), [1]);
        let client = rig.connect(&connect(version, "c"));
        for packet in [publish("t", "x").qos2(7).retain(), publish("t", "x").qos2(7).retain().dup()]
        {
            client.send(&packet);
            assert!(client.pubrec().code < 0x80);
        }
        client.send(&pubrel(7));
        assert_eq!(client.pubcomp().packet_id, 7);
        let message = reader.publish();
        assert_eq!((message.qos, message.text()), (1, "x"));
        reader.expect_nothing();
        let later = rig.connect(&v5("later"));
        assert_eq!(later.subscribe(&subscribe(1, "t").qos(2)), [1]);
        assert_eq!(later.publish().qos, 1, "retained, too");
    }
}

/// 12.3, 12.4: what the broker does for a message it does for a will.
#[test]
fn a_will_of_qos_2_goes_out_at_the_maximum() {
    for version in BOTH {
        let rig = at_most_once_acknowledged();
        let reader = rig.client("reader");
        assert_eq!(reader.subscribe(&subscribe(1, "t").qos(2)), [1]);
        rig.connect(&connect(version, "c").will(will("t", "gone").qos(2))).reset();
        assert_eq!(reader.publish().qos, 1);
    }
}

/// The other end of the range.
#[test]
fn a_maximum_qos_of_0_leaves_nothing_to_acknowledge_to_subscribers() {
    let rig = Rig::speaking(|dialect| dialect.max_qos = QoS::AtMostOnce);
    let (client, connack) = rig.connect_told(&v5("c"));
    assert_eq!(connack.props.number(prop::MAXIMUM_QOS), Some(0));
    assert_eq!(client.subscribe(&subscribe(1, "t").qos(1)), [0]);
    rig.client("p").send(&publish("t", "x").qos1(1));
    assert_eq!(client.publish().qos, 0);
}

/// 14.1.8 is for those who have them on.
#[test]
fn a_filter_with_conditions_is_one_like_any_other_when_they_are_off() {
    let rig = Rig::speaking(|dialect| dialect.filters = false);
    for filter in ["$filter/payload=x/t", "$filter/payload=(/t"] {
        let client = rig.subscriber(Version::V5, filter, filter, 0);
        let publisher = rig.client("p");
        publisher.send(&publish("t", "not asked for"));
        publisher.send(&publish(filter, "asked for"));
        assert_eq!(client.payloads(), ["asked for"]);
    }
}
