//! Reading a configuration: what is taken over, and how mistakes are reported.

use std::path::Path;

use longshore::codec::QoS;
use longshore::{Scheme, WildcardDelete};

use super::key::Key;
use super::*;

const FILE: &str = "etc/longshore.toml";

fn parse(text: &str, variables: &[(&str, &str)], arguments: &Arguments) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::parse(Some((Path::new(FILE), text)), variables, arguments)
        .map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))
}

fn check(text: &str, want: &str) {
    let problems = parse(text, &[], &Arguments::default()).unwrap_err();
    assert_eq!(problems, want, "for {text:?}");
}

fn urls(config: &Config) -> Vec<String> {
    config.listen.iter().map(|it| it.listen.to_string()).collect()
}

fn all_shown(config: &Config) -> Vec<String> {
    keys().iter().map(|key| format!("{} = {}", key.full(), (key.show)(config))).collect()
}

#[test]
fn nothing_said_is_the_default() {
    let config = Config::parse(None, [], &Arguments::default()).unwrap();
    assert_eq!(urls(&config), ["mqtt://0.0.0.0:1883", "http://0.0.0.0:8080"]);
    assert!(!config.auth.anonymous);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn a_file_is_taken_over_whole() {
    let text = r#"
        [[listen]]
        url = "mqtts://[::]:8883?proxy=v2"
        trusted = ["10.0.0.0/8", "::1"]
        [tls]
        cert = "chain.pem"
        key = "/run/key.pem"
        client_ca = "ca.pem"
        [auth]
        anonymous = true
        special = false
        failures_per_minute = 7
        counters_secs = 0
        [limits]
        packet_bytes = 268_435_460
        receive_maximum = 0x10
        [dialect]
        wildcard_delete = "retain"
        selectors = false
        sticky_groups = false
        filters = false
        stamp = false
        describe_session = false
        max_qos = 1
        rest_over_mqtt = true
        [threads]
        shards = 4
        [log]
        format = "json"
        level = "warn,longshore_broker=debug"
    "#;
    let config = parse(text, &[], &Arguments::default()).unwrap();
    assert_eq!(urls(&config), ["mqtts://[::]:8883?proxy=v2"]);
    assert_eq!(config.listen[0].listen.trusted.len(), 2);
    let paths: Vec<_> = config.tls.paths().collect();
    let want = ["etc/chain.pem", "/run/key.pem", "etc/ca.pem"].map(Path::new);
    assert_eq!(paths, want, "relative to the folder of the file");
    assert!(config.auth.anonymous && !config.auth.special);
    assert_eq!(config.auth.failures_per_minute, 7);
    assert_eq!(config.auth.counters_secs, 0);
    assert_eq!(config.limits.packet_bytes, 268_435_460);
    assert_eq!(config.limits.receive_maximum, 16);
    assert_eq!(config.dialect.wildcard_delete, WildcardDelete::Retain);
    let Dialect { selectors, sticky_groups, filters, stamp, describe_session, .. } = config.dialect;
    assert_eq!([selectors, sticky_groups, filters, stamp, describe_session], [false; 5]);
    assert_eq!(config.dialect.max_qos, QoS::AtLeastOnce);
    assert!(config.dialect.rest_over_mqtt && !Dialect::default().rest_over_mqtt);
    assert_eq!(config.shards, 4);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.level, "warn,longshore_broker=debug");
}

#[test]
fn an_unknown_key_names_place_and_nearest() {
    let rows = [
        (
            "[limits]\npacket_byte = 1",
            "2:1: unknown key limits.packet_byte; the nearest is limits.packet_bytes",
        ),
        ("anonymous = true", "1:1: unknown key anonymous; the nearest is auth.anonymous"),
        ("\n\n[limit]\npacket_bytes = 1", "3:2: unknown section [limit]; the nearest is [limits]"),
        (
            "[[listen]]\nurl = 'mqtt://[::]'\ntrust = []",
            "3:1: unknown key listen.trust; the nearest is listen.trusted",
        ),
        (
            "limits.conections = 5",
            "1:8: unknown key limits.conections; the nearest is limits.connections",
        ),
    ];
    for (text, want) in rows {
        check(text, &format!("{FILE}:{want}"));
    }
}

#[test]
fn a_wrong_value_says_what_its_key_takes() {
    let rows = [
        (
            "[limits]\ninflight = 0",
            "2:1: limits.inflight takes a whole number from 1 to 65535, not 0",
        ),
        (
            "[limits]\ninflight = '9'",
            "2:1: limits.inflight takes a whole number from 1 to 65535, not \"9\"",
        ),
        (
            "[limits]\nsubscriptions = -1",
            "2:1: limits.subscriptions takes a whole number from 1 to 9223372036854775807, not -1",
        ),
        ("[dialect]\nmax_qos = 3", "2:1: dialect.max_qos takes a whole number from 0 to 2, not 3"),
        ("[auth]\nanonymous = 1", "2:1: auth.anonymous takes true or false, not 1"),
        ("[log]\nformat = 'xml'", "2:1: log.format is \"compact\" or \"json\", not \"xml\""),
        ("[tls]\ncert = []", "2:1: tls.cert takes a text, not this array"),
        ("log = 'json'", "1:1: log is a section: write [log] above its keys"),
        ("listen = 'mqtt://[::]'", "1:1: listeners are a list: write [[listen]] above each"),
        ("[[listen]]", "1:1: a listener needs its url"),
        ("[[listen]]\nurl = 1883", "2:7: listen.url takes a text, not 1883"),
        (
            "[[listen]]\nurl = 'mqtt://[::]'\ntrusted = 'x'",
            "3:11: listen.trusted takes a list of texts, not \"x\"",
        ),
    ];
    for (text, want) in rows {
        check(text, &format!("{FILE}:{want}"));
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let problems = parse("[log]\nlevel = \n", &[], &Arguments::default()).unwrap_err();
    assert!(problems.starts_with(&format!("{FILE}:2:")), "{problems}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = parse(
        "[log]\nlevle = 'info'\n[auth]\nanonymous = 'yes'",
        &[("LONGSHORE_THREADS__SHARDS", "many")],
        &Arguments { listen: vec!["tcp://x".to_owned()], ..Arguments::default() },
    )
    .unwrap_err();
    assert_eq!(problems.lines().count(), 4, "{problems}");
}

#[test]
fn a_tls_listener_needs_certificate_and_key() {
    check(
        "[[listen]]\nurl = 'mqtts://[::]'",
        &format!("{FILE}:2:7: mqtts://[::]:8883 needs tls.cert and tls.key"),
    );
    check(
        "[tls]\ncert = 'chain.pem'",
        &format!("{FILE}:2:1: TLS needs certificate and key: tls.key is missing"),
    );
}

#[test]
fn a_listener_agrees_with_its_proxies() {
    let at = |line: usize| format!("{FILE}:{line}:7: mqtt://[::]:1883");
    check(
        "[[listen]]\nurl = 'mqtt://[::]?proxy=v2'",
        &format!(
            "{}?proxy=v2 believes no proxy: name yours, in a file as trusted = [\"10.0.0.0/8\"], \
             in a url as ?proxy=v2&trusted=10.0.0.0/8",
            at(2)
        ),
    );
    check(
        "[[listen]]\nurl = 'mqtt://[::]'\ntrusted = ['::1']",
        &format!("{} trusts a proxy but expects none: add ?proxy=v2 to the url", at(2)),
    );
}

#[test]
fn variables_go_over_the_file_and_arguments_over_both() {
    let text = "[[listen]]\nurl = 'mqtt://[::]:1'\n[limits]\ninflight = 5\nsubscriptions = 6";
    let variables = [
        ("LONGSHORE_LIMITS__INFLIGHT", "7"),
        ("LONGSHORE_AUTH__ANONYMOUS", "true"),
        ("LONGSHORE_LISTEN__URL", "mqtt://[::]:2 ws://[::]:3?proxy=v2"),
        ("LONGSHORE_LISTEN__TRUSTED", "10.0.0.1, 10.0.0.2"),
        ("LONGSHORE_MASTER_TOKEN", "read elsewhere"),
    ];
    let config = parse(text, &variables, &Arguments::default()).unwrap();
    assert_eq!((config.limits.inflight, config.limits.subscriptions), (7, 6));
    assert!(config.auth.anonymous);
    assert_eq!(urls(&config), ["mqtt://[::]:2", "ws://[::]:3?proxy=v2"]);
    assert_eq!(config.listen.iter().map(|it| it.listen.trusted.len()).collect::<Vec<_>>(), [0, 2]);

    let arguments = Arguments { listen: vec!["mqtt://[::]:4".to_owned()], ..Arguments::default() };
    assert_eq!(urls(&parse(text, &variables, &arguments).unwrap()), ["mqtt://[::]:4"]);
}

#[test]
fn an_unknown_variable_names_the_nearest_and_foreign_ones_are_let_be() {
    let rows = [
        ("LONGSHORE_LIMITS__INFLIHGT", "LONGSHORE_LIMITS__INFLIGHT"),
        ("LONGSHORE_LIMITS_INFLIGHT", "LONGSHORE_LIMITS__INFLIGHT"),
        ("LONGSHORE_MASTERTOKEN", "LONGSHORE_MASTER_TOKEN"),
        ("LONGSHORE_STORE__X", "LONGSHORE_LOG__LEVEL"),
    ];
    for (name, _) in rows {
        let problems = parse("", &[(name, "1")], &Arguments::default()).unwrap_err();
        assert!(problems.starts_with(&format!("{name}: unknown variable; the nearest")));
    }
    for (name, want) in &rows[..3] {
        let problems = parse("", &[(name, "1")], &Arguments::default()).unwrap_err();
        assert!(problems.ends_with(want), "{problems}");
    }
    let foreign = [("LONGSHORE_PORT", "tcp://10.0.0.1:1883"), ("LONGSHORE_SERVICE_HOST", "::1")];
    assert!(parse("", &foreign, &Arguments::default()).is_ok());
}

#[test]
fn the_example_names_every_key_and_equals_the_defaults() {
    let text = include_str!("../../examples/longshore.toml");
    let config = parse(text, &[], &Arguments::default()).unwrap();
    assert_eq!(all_shown(&config), all_shown(&Config::default()));
    assert_eq!(urls(&config), urls(&Config::default()));
    let named = |key: &Key| {
        let stripped = text.lines().map(|line| line.trim_start_matches('#').trim_start());
        stripped.into_iter().any(|line| line.starts_with(&format!("{} = ", key.name)))
    };
    let missing: Vec<_> = keys().iter().filter(|key| !named(key)).map(Key::full).collect();
    assert!(missing.is_empty(), "not in the example: {missing:?}");
}

#[test]
fn what_the_example_leaves_out_parses_too() {
    let text = include_str!("../../examples/longshore.toml");
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|it| !it.starts_with(' ')).unwrap_or(line))
        .collect();
    let config = parse(&uncommented.join("\n"), &[], &Arguments::default()).unwrap();
    assert!(config.tls.client_ca.is_some() && config.listen.len() > 2);
}

/// Specification of the broker, 1.1.
#[test]
fn the_example_of_flespi_listens_on_its_ports() {
    let text = include_str!("../../examples/flespi-ports.toml");
    let config = parse(text, &[], &Arguments::default()).unwrap();
    let listens = config.listen.iter().map(|it| (it.listen.scheme, it.listen.port));
    let want =
        [(Scheme::Mqtt, 1883), (Scheme::Mqtts, 8883), (Scheme::Http, 80), (Scheme::Https, 443)];
    assert_eq!(listens.collect::<Vec<_>>(), want);
    assert_eq!(config.tls.paths().count(), 2);
}

#[cfg(feature = "streams")]
#[test]
fn what_streams_may_reach_is_checked_when_it_is_read() {
    let text = "[streams]\nallow = ['iot.example.com', '10.0.0.0/8']";
    let config = parse(text, &[], &Arguments::default()).unwrap();
    assert_eq!(config.streams.allow, ["iot.example.com", "10.0.0.0/8"]);
    let problems = parse("[streams]\nallow = ['10.0.0.0/99']", &[], &Arguments::default());
    let problems = problems.unwrap_err();
    let want = ":2:1: streams.allow lists no target: \"10.0.0.0/99\" is no host";
    assert!(problems.contains(want), "{problems}");
}
