//! The platform that streams send to: a server of HTTP that takes most batches, and not others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::Value;

use super::clients::Dice;

/// Of so many requests one has another fate than to be taken.
const BAD: usize = 6;

/// A request that was read to its end, or begun.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// A stream has a path of its own.
    pub(crate) path: String,
    /// The connection, of all there were.
    pub(crate) connection: usize,
    /// What was acknowledged with 200; none where it was not.
    pub(crate) taken: Option<Vec<Value>>,
}

/// See the module. It runs until the test ends.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
}

/// What becomes of a request.
enum Fate {
    /// 200.
    Taken,
    /// 500.
    Refused,
    /// The connection ends in the middle of the body.
    Broken,
    /// The connection ends where the answer should be.
    Unanswered,
}

impl Endpoint {
    pub(crate) fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let posts: Arc<Mutex<Vec<Post>>> = Arc::default();
        let all = Arc::clone(&posts);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { continue };
                let posts = Arc::clone(&all);
                let dice = Dice::new(seed ^ connection as u64);
                // A broker that was killed ends its connections in any manner.
                thread::spawn(move || drop(serve(stream, connection, &posts, dice)));
            }
        });
        Self { address, posts }
    }

    /// All requests so far, in the order in which they were answered.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.posts.lock().expect("nobody panics with it").clone()
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    posts: &Mutex<Vec<Post>>,
    mut dice: Dice,
) -> std::io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    loop {
        let (path, length) = head(&mut requests)?;
        let fate = match dice.below(3 * BAD) {
            0 => Fate::Refused,
            1 => Fate::Broken,
            2 => Fate::Unanswered,
            _ => Fate::Taken,
        };
        let mut body = vec![0; if matches!(fate, Fate::Broken) { length / 2 } else { length }];
        requests.read_exact(&mut body)?;
        if dice.once_in(4) {
            // A batch that is under way for a while is one that a kill finds under way.
            sleep(Duration::from_millis(dice.below(40) as u64));
        }
        let taken = match fate {
            Fate::Taken => Some(serde_json::from_slice(&body).expect("an array of messages")),
            _ => None,
        };
        let (is_taken, is_over) =
            (taken.is_some(), matches!(fate, Fate::Broken | Fate::Unanswered));
        // It is noted before it is answered: what comes behind it knows that it was taken.
        posts.lock().expect("nobody panics with it").push(Post { path, connection, taken });
        if is_over {
            return Ok(());
        }
        let status = if is_taken { "200 OK" } else { "500 Internal Server Error" };
        write!(answers, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// Reads the head of a request: its path, and the bytes of its body.
fn head(requests: &mut impl BufRead) -> std::io::Result<(String, usize)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((path, length));
        }
        if let Some(rest) = line.strip_prefix("POST ") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut path);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a number");
        }
    }
}
