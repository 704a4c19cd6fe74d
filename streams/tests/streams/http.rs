//! The sink that posts (R6.19 to R6.21).

use std::sync::Arc;
use std::time::Duration;

use longshore_storage::Tables;
use longshore_streams::{
    Message, Outcome, Protocol, QueueOptions, Queues, Report, Rules, Runner, RunnerOptions, Sink,
    failure,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::Server;
use crate::{message, messages, sink};

fn post_to(server: &Server, more: Value) -> longshore_streams::AnySink {
    let mut configuration = json!({"uri": format!("http://{}/in?key=1", server.address)});
    configuration.as_object_mut().unwrap().extend(crate::object(&more));
    sink(Protocol::Http, &configuration)
}

/// R6.20: what express and aiohttp read, a JSON array with its type and length.
#[tokio::test]
async fn a_batch_is_one_post_of_a_json_array() {
    let server = Server::start(&[]).await;
    let headers = json!({"headers": {"X-Key": "hush", "user-agent": "mine"}});
    let mut sink = post_to(&server, headers);
    let batch = [
        message(&json!({"ident": "1", "timestamp": 1_706_905_170.172_58, "position.speed": 5})),
        message(&json!({"ident": "2", "timestamp": 1_706_760_559})),
    ];
    assert_eq!(sink.send(&batch).await, Outcome::accepted(2));
    assert_eq!(sink.send(&batch[..1]).await, Outcome::accepted(1));
    let asked = server.asked();
    let want = concat!(
        r#"[{"ident":"1","position.speed":5,"timestamp":1706905170.17258},"#,
        r#"{"ident":"2","timestamp":1706760559}]"#
    );
    assert_eq!(String::from_utf8_lossy(&asked[0].body), want);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/in?key=1"));
    let header = |name: &str| asked[0].headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("content-length"), want.len().to_string());
    assert_eq!(header("host"), server.address.to_string());
    assert_eq!((header("x-key"), header("user-agent")), ("hush", "mine"));
    assert_eq!(asked[1].connection, 0, "the connection is used again");
    assert!(!format!("{sink:?}").contains("hush"), "{sink:?}");
}

/// R1.4, R6.17: also where a mask names the ident anew.
#[tokio::test]
async fn numbers_and_the_order_of_names_pass_through_as_they_were_published() {
    let server = Server::start(&[]).await;
    let text =
        r#"{"timestamp": 1e3, "ident":"1","a.b":1.10, "c":[1.0,{}],"d":12345678901234567890.5}"#;
    let batch = [text, r#"{"ident":"2"}"#].map(|it| Message::read(it.as_bytes().to_vec()).unwrap());
    post_to(&server, json!({})).send(&batch).await;
    post_to(&server, json!({"ident": "\"%a.b%\""})).send(&batch).await;
    let bodies: Vec<_> = server.asked().into_iter().map(|it| it.body).collect();
    assert_eq!(String::from_utf8_lossy(&bodies[0]), format!(r#"[{text},{{"ident":"2"}}]"#));
    let named = concat!(
        r#"[{"a.b":1.10,"c":[1.0,{}],"d":12345678901234567890.5,"ident":"\"1.10\"","#,
        r#""timestamp":1e3},{"ident":"2"}]"#
    );
    assert_eq!(String::from_utf8_lossy(&bodies[1]), named);
}

/// R6.17, R6.18.
#[tokio::test]
async fn a_mask_renames_ident_where_it_can_be_filled() {
    let server = Server::start(&[]).await;
    let mut sink = post_to(&server, json!({"ident": "fleet-%vehicle.vin%"}));
    let batch =
        [message(&json!({"ident": "1", "vehicle.vin": "V"})), message(&json!({"ident": "2"}))];
    sink.send(&batch).await;
    let body: Value = serde_json::from_slice(&server.asked()[0].body).unwrap();
    assert_eq!((&body[0]["ident"], &body[1]["ident"]), (&json!("fleet-V"), &json!("2")));
}

/// R6.21.
#[tokio::test]
async fn only_200_acknowledges() {
    let statuses = [500, 201, 202, 204, 301, 400, 401, 413, 429, 503];
    let server = Server::start(&statuses).await;
    let mut sink = post_to(&server, json!({}));
    for status in statuses {
        let outcome = sink.send(&messages(1)).await;
        assert_eq!(outcome.settled, 0, "{status}");
        assert_eq!(outcome.failure.unwrap().code, i32::from(status));
    }
    assert_eq!(sink.send(&messages(1)).await, Outcome::accepted(1));
    assert_eq!(server.asked().len(), statuses.len() + 1, "a redirect is not followed");
}

/// R6.21: whatever a server does, there is an answer, and the next batch has a new connection.
#[tokio::test]
async fn a_server_that_breaks_off_has_taken_nothing() {
    let rows: [(&str, &[u8], i32); 4] = [
        ("closes", b"", failure::CLOSED),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", failure::CLOSED),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", failure::PROTOCOL),
        ("only continues", b"HTTP/1.1 100 Continue\r\n\r\n", failure::CLOSED),
    ];
    for (name, answer, code) in rows {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = [0; 4_096];
                let _ = stream.read(&mut read).await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
        });
        let mut sink = sink(Protocol::Http, &json!({"uri": uri}));
        for _ in 0..2 {
            let outcome = sink.send(&messages(1)).await;
            assert_eq!((outcome.settled, outcome.failure.unwrap().code), (0, code), "{name}");
            sink.close();
        }
    }
}

/// R6.10, R6.11, R6.13, R6.21: the whole of it, from the queue to the server.
#[tokio::test]
async fn a_stream_posts_the_same_batch_until_it_is_acknowledged() {
    let server = Server::start(&[500]).await;
    let folder = tempfile::tempdir().unwrap();
    let queues = Queues::open(&Tables::open(&folder.path().join("tables")).unwrap()).unwrap();
    let queue = queues.queue(7, QueueOptions::default()).unwrap();
    let batch: [&[u8]; 2] = [br#"{"ident":"1"}"#, br#"{"ident":"2"}"#];
    queues.append(&[(&queue, &batch)], 0).await.unwrap();
    let options = RunnerOptions::new(|| 0);
    let runner = Runner::new(queue.clone(), Rules::default(), post_to(&server, json!({})), options);
    let (sender, mut reports) = mpsc::unbounded_channel();
    let stop = async {
        let failed: Report = reports.recv().await.unwrap();
        assert_eq!((failed.rejected, failed.failure.unwrap().code), (2, 500));
        assert_eq!(queue.status().messages, 2);
        assert_eq!(reports.recv().await.unwrap().accepted, 2);
    };
    runner.run(stop, |it| sender.send(it).unwrap()).await.unwrap();
    let asked = server.asked();
    assert_eq!((asked.len(), &asked[0].body), (2, &asked[1].body));
    assert_eq!(queue.status().messages, 0);
}

/// What the server promised with its status holds, whatever becomes of the body.
#[tokio::test]
async fn half_a_body_behind_200_is_an_acknowledgement() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4_096];
            let _ = stream.read(&mut read).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
            stream.write_all(answer).await.unwrap();
        }
    });
    let mut sink = sink(Protocol::Http, &json!({"uri": uri}));
    for _ in 0..2 {
        assert_eq!(sink.send(&messages(1)).await, Outcome::accepted(1));
    }
}

/// A server may close a connection that is idle at any moment, and that is no failure.
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4_096];
            let _ = stream.read(&mut read).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    });
    let mut sink = sink(Protocol::Http, &json!({"uri": uri}));
    for _ in 0..20 {
        assert_eq!(sink.send(&messages(1)).await, Outcome::accepted(1));
    }
}

#[tokio::test]
async fn a_slow_server_does_not_hold_whoever_gives_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let mut sink = sink(Protocol::Http, &json!({"uri": uri}));
    let (batch, mut read) = (messages(1), vec![0; 15]);
    let asked = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut read).await.unwrap();
        stream
    };
    let mut stream = tokio::select! {
        outcome = sink.send(&batch) => panic!("nobody has answered: {outcome:?}"),
        stream = asked => stream,
    };
    sink.close();
    timeout(Duration::from_secs(60), stream.read_to_end(&mut read)).await.unwrap().unwrap();
    assert!(read.starts_with(b"POST / HTTP/1.1"), "the connection is closed, not kept");
}

/// R6.19: a private authority is trusted where it is configured, and nowhere else.
#[tokio::test]
async fn https_is_checked_against_the_authority_of_the_configuration() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Server::start_with(&[], Some(Arc::new(config))).await;
    let at = |host: &str| format!("https://{host}:{}", server.address.port());
    let ca = made.cert.pem();
    let mut trusting = sink(Protocol::Http, &json!({"uri": at("localhost"), "ca": ca}));
    assert_eq!(trusting.send(&messages(3)).await, Outcome::accepted(3));
    for configuration in
        [json!({"uri": at("localhost")}), json!({"uri": at("127.0.0.1"), "ca": ca})]
    {
        let failure = sink(Protocol::Http, &configuration).send(&messages(1)).await.failure;
        assert_eq!(failure.unwrap().code, failure::CERTIFICATE, "{configuration}");
    }
}

#[tokio::test]
async fn a_target_in_the_hosts_own_network_is_refused_unless_it_is_listed() {
    let server = Server::start(&[]).await;
    let configuration = json!({"uri": format!("http://localhost:{}", server.address.port())});
    let configuration = Protocol::Http.configure(&crate::object(&configuration)).unwrap();
    let none = longshore_streams::Targets::default();
    let mut sink = longshore_streams::AnySink::new(&configuration, &none, "7").unwrap();
    let failure = sink.send(&messages(1)).await.failure.unwrap();
    assert_eq!(failure.code, failure::FORBIDDEN, "{failure}");
    assert!(failure.text.contains("streams.allow"), "{failure}");
    assert!(server.asked().is_empty());
}
