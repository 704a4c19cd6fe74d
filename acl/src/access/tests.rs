//! What an access reads, refuses and gives back.

use serde_json::json;

use super::*;

fn read(value: &Value) -> Result<Access, Invalid> {
    Access::from_json(value)
}

/// Broker specification, 4.9, 4.11.
#[test]
fn an_access_comes_back_with_all_that_nobody_here_knows() {
    for value in [
        json!({"type": 0}),
        json!({"type": 1}),
        json!({"type": 2, "acl": []}),
        json!({"type": 1, "new": {"a": [null]}}),
        json!({"type": 2, "acl": [
            {"uri": "gw/devices", "methods": ["GET"], "ids": "in-groups", "more": 1,
             "submodules": [{"name": "messages", "methods": ["GET", "DELETE"], "x": true}]},
            {"uri": "space/rockets", "fuel": {"kind": 7}},
            {"uri": "mqtt", "topic": "a/+", "actions": ["publish"], "ids": "what", "methods": []},
        ]}),
    ] {
        assert_eq!(read(&value).unwrap().to_json(), value);
    }
    assert_eq!(read(&json!({})).unwrap().to_json(), json!({"type": 0}));
}

/// Broker specification, 4.9.
#[test]
fn entries_are_read_as_they_are_written() {
    let access = read(&json!({"type": 2, "acl": [
        {"uri": "gw/devices", "methods": ["GET", "PUT"], "ids": [9, 2, 9],
         "submodules": [{"name": "messages", "methods": ["DELETE"]}]},
        {"uri": "mqtt", "topic": "a,b/#", "actions": ["subscribe", "publish"], "methods": ["POST"]},
        {"uri": "mqtt", "methods": ["PATCH"]},
        {"uri": "ai"},
    ]}));
    let set = |methods: &[Method]| methods.iter().copied().collect::<Methods>();
    let plain = |uri: &str| Ace {
        uri: uri.to_owned(),
        methods: Methods::default(),
        ids: Ids::All,
        submodules: vec![],
        topic: None,
        publish: false,
        subscribe: false,
    };
    let want = [
        Ace {
            methods: set(&[Method::Get, Method::Put]),
            ids: Ids::Listed([2, 9].into()),
            submodules: vec![("messages".to_owned(), set(&[Method::Delete]))],
            ..plain("gw/devices")
        },
        Ace {
            methods: set(&[Method::Post]),
            topic: Some("a,b/#".to_owned()),
            publish: true,
            subscribe: true,
            ..plain(MQTT)
        },
        Ace { methods: set(&[Method::Patch]), ..plain(MQTT) },
        plain("ai"),
    ];
    assert_eq!(access.unwrap().entries(), want);
    assert!(!want[0].methods.contains(Method::Post) && want[3].methods.is_empty());
}

/// REST of 2018, token.post.
#[test]
fn the_form_of_2018_reads_as_the_same_access() {
    let acl = json!([{"uri": "mqtt", "topic": "a", "actions": ["publish"]}]);
    let new = read(&json!({"type": 2, "acl": acl})).unwrap();
    assert_eq!(Access::from_flags(Some(&json!(2)), Some(&acl)).unwrap(), new);
    assert_eq!(Access::from_flags(Some(&json!(1)), None).unwrap(), Access::new(Kind::Master));
    let bad = |flags: Value, acl: Option<&Value>| {
        Access::from_flags(Some(&flags), acl).unwrap_err().to_string()
    };
    assert_eq!(bad(json!(2), None), "acl: missing");
    assert_eq!(bad(json!(2), Some(&json!([1]))), "acl[0]: not an object");
    assert_eq!(bad(json!(3), None), "flags: not 0 (standard), 1 (master) or 2 (acl)");
}

/// Spec of the modules: R2.24.
#[test]
fn methods_may_be_a_mask_and_are_shown_as_a_list() {
    let acl = |one: Value, two: Value| {
        json!({"type": 2, "acl": [{"uri": "gw/channels", "methods": one,
            "submodules": [{"name": "messages", "methods": two}]}]})
    };
    let rows = [
        (json!(0), json!([])),
        (json!(1), json!(["GET"])),
        (json!(10), json!(["POST", "DELETE"])),
        (json!(4), json!(["PUT"])),
        (json!(15), json!(["GET", "POST", "PUT", "DELETE"])),
    ];
    for (mask, list) in rows {
        let access = read(&acl(mask.clone(), mask.clone())).unwrap();
        assert_eq!(access, read(&acl(list.clone(), list.clone())).unwrap(), "{mask}");
        assert_eq!(access.to_json(), acl(list.clone(), list), "{mask}");
    }
    let flags = Access::from_flags(Some(&json!(2)), Some(&acl(json!(3), json!([]))["acl"]));
    assert_eq!(flags.unwrap().to_json(), acl(json!(["GET", "POST"]), json!([])));
}

#[test]
fn what_is_wrong_names_its_field() {
    let fine = || json!({"uri": "mqtt", "topic": "a"});
    let rows = [
        (json!({"topic": "a"}), "access.acl[1].uri: missing"),
        (json!({"uri": ""}), "access.acl[1].uri: not a text"),
        (json!({"uri": "mqtt", "topic": "a/#/b"}), "access.acl[1].topic: not a valid topic filter"),
        (json!({"uri": "mqtt", "topic": "a,+"}), "access.acl[1].topic: not a valid topic filter"),
        (json!({"uri": "mqtt", "topic": "$share/a/b"}), "access.acl[1].topic: not a valid topic"),
        (json!({"uri": "mqtt", "topic": ""}), "access.acl[1].topic: not 1 to 1024 bytes"),
        (json!({"uri": "mqtt", "topic": "a".repeat(1_025)}), "access.acl[1].topic: not 1 to 1024"),
        (json!({"uri": "mqtt", "topic": 1}), "access.acl[1].topic: not a string"),
        (json!({"uri": "mqtt", "actions": ["publish"]}), "access.acl[1].topic: missing"),
        (json!({"uri": "mqtt", "actions": ["x"]}), "access.acl[1].actions[0]: not publish"),
        (json!({"uri": "mqtt", "actions": "publish"}), "access.acl[1].actions: not an array"),
        (json!({"uri": "a", "methods": ["GET", "get"]}), "access.acl[1].methods[1]: not GET, POST"),
        (json!({"uri": "a", "methods": 16}), "access.acl[1].methods: not GET 1, POST 2, PUT 4"),
        (json!({"uri": "a", "methods": -1}), "access.acl[1].methods: not GET 1, POST 2, PUT 4"),
        (json!({"uri": "a", "methods": 1.5}), "access.acl[1].methods: not GET 1, POST 2, PUT 4"),
        (json!({"uri": "a", "methods": [1]}), "access.acl[1].methods[0]: not a string"),
        (json!({"uri": "a", "ids": "some"}), "access.acl[1].ids: not \"all\", \"in-groups\" or"),
        (json!({"uri": "a", "ids": [1, "2"]}), "access.acl[1].ids[1]: not a whole number"),
        (json!({"uri": "a", "submodules": {}}), "access.acl[1].submodules: not an array"),
        (json!({"uri": "a", "submodules": [{}]}), "access.acl[1].submodules[0].name: not a string"),
        (
            json!({"uri": "a", "submodules": [{"name": "b", "methods": ["X"]}]}),
            "access.acl[1].submodules[0].methods[0]: not GET",
        ),
        (json!(7), "access.acl[1]: not an object"),
    ];
    for (entry, want) in rows {
        let found = read(&json!({"type": 2, "acl": [fine(), entry]})).unwrap_err().to_string();
        assert!(found.starts_with(want), "{entry}: {found}");
    }
    let whole = [
        (json!({"type": 2}), "access.acl: missing"),
        (json!({"type": 3}), "access.type: not 0"),
        (json!({"type": 256}), "access.type: not 0"),
        (json!({"type": "2"}), "access.type: not a whole number"),
        (json!({"type": 2, "acl": {}}), "access.acl: not an array"),
        (json!([]), "access: not an object"),
    ];
    for (value, want) in whole {
        let found = read(&value).unwrap_err().to_string();
        assert!(found.starts_with(want), "{value}: {found}");
    }
}

#[test]
fn what_grows_is_bounded() {
    let entry = json!({"uri": "mqtt", "topic": "a", "actions": ["publish"]});
    let of = |count: usize| json!({"type": 2, "acl": vec![entry.clone(); count]});
    assert_eq!(read(&of(ACL_ENTRIES_MAX)).unwrap().entries().len(), ACL_ENTRIES_MAX);
    let found = read(&of(ACL_ENTRIES_MAX + 1)).unwrap_err();
    assert_eq!(found.to_string(), "access.acl: over 1000 entries");
    let ids = json!({"uri": "a", "ids": vec![1; ACL_IDS_MAX + 1]});
    let found = read(&json!({"type": 2, "acl": [ids]})).unwrap_err();
    assert_eq!(found.to_string(), "access.acl[0].ids: over 10000 numbers");
    let found = read(&json!({"type": 0, "x": "y".repeat(ACCESS_BYTES_MAX)})).unwrap_err();
    assert_eq!(found.to_string(), "access: over 1048576 bytes");
}
