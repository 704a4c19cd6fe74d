//! The socket in the data directory: `longshore data backup` asks a broker that runs for its
//! tables there, which no other process can open.
//!
//! The one that asks sends a line, and the broker answers with a line and all rows as they are at
//! that moment. So the broker writes nothing where it is told to, and need not even see that place.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use longshore_storage::Tables;
use tracing::{info, warn};

use crate::data_dir::DataDir;
use crate::start::Running;

/// The name of the socket.
pub(crate) const SOCKET: &str = "control";
/// Its name before others than its owner are kept out.
const DRAFT: &str = "control.draft";
/// Bytes of what is asked for.
const ASKED_MAX: u64 = 64;
/// How long either side waits for the other to read or write on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between an answer that failed and the next.
const RETRY: Duration = Duration::from_millis(200);
/// Bytes of a path that every system takes for a socket.
const PATH_MAX: usize = 100;

/// What comes next of an answer.
const END: u8 = 0;
const TABLE: u8 = 1;
const ROW: u8 = 2;
const FAILED: u8 = 3;

/// A socket that is listened on. It goes with this.
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Answers in a thread of its own as long as the broker runs. A broker that cannot do so is no
    /// worse for it until it is to be backed up.
    pub(crate) fn listen(data: &DataDir, broker: &Arc<Running>) -> Option<Self> {
        let path = data.path().join(SOCKET);
        let begun = open(data.path()).and_then(|listener| {
            let broker = Arc::downgrade(broker);
            let name = SOCKET.to_owned();
            thread::Builder::new().name(name).spawn(move || answer_all(&listener, &broker))
        });
        match begun {
            Ok(_) => Some(Self { path }),
            Err(cause) => {
                let path = path.display();
                warn!(%path, %cause, "no socket: stop the broker for a backup of its accounts");
                None
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that stays answers nobody, and the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens for the owner alone. Only the one process that has the data directory open comes here,
/// so a socket that is there is of nobody any more.
fn open(directory: &Path) -> io::Result<UnixListener> {
    let draft = directory.join(DRAFT);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (address, _folder) = address(directory, DRAFT)?;
    let listener = UnixListener::bind(address)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    fs::rename(&draft, directory.join(SOCKET))?;
    Ok(listener)
}

/// A path to a socket of that name that is short enough, as long as the folder is held.
fn address(directory: &Path, name: &str) -> io::Result<(PathBuf, Option<File>)> {
    let path = directory.join(name);
    if path.as_os_str().len() <= PATH_MAX || !cfg!(target_os = "linux") {
        return Ok((path, None));
    }
    let folder = File::open(directory)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())), Some(folder)))
}

fn answer_all(listener: &UnixListener, broker: &Weak<Running>) {
    for stream in listener.incoming() {
        let Some(broker) = broker.upgrade() else { return };
        match stream.and_then(|stream| answer(&stream, |folder| broker.tables(folder))) {
            Ok(rows) => info!(rows, "tables given to a backup"),
            Err(cause) => {
                warn!(%cause, "a backup was not answered");
                // Where the system has no more files, it has none at once either.
                thread::sleep(RETRY);
            }
        }
    }
}

/// What is asked for of the tables in a folder, and what an answer begins with.
fn greeting(folder: &str) -> String {
    format!("longshore {folder} 1\n")
}

/// Answers one question; how many rows there were.
fn answer<'a>(stream: &UnixStream, tables: impl Fn(&str) -> Option<&'a Tables>) -> io::Result<u64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut asked = String::new();
    BufReader::new(stream.take(ASKED_MAX)).read_line(&mut asked)?;
    let tables =
        asked.split(' ').nth(1).filter(|folder| greeting(folder) == asked).and_then(tables);
    let tables = tables.ok_or_else(|| io::Error::other("it asks for what is not here"))?;
    let mut to = BufWriter::new(stream);
    to.write_all(asked.as_bytes())?;
    let sent = send(tables, &mut to);
    if let Err(error) = &sent {
        to.write_all(&[FAILED])?;
        put(&mut to, error.to_string().as_bytes())?;
    }
    to.flush()?;
    sent
}

fn send(tables: &Tables, to: &mut impl Write) -> io::Result<u64> {
    let mut rows = 0;
    let snapshot = tables.snapshot();
    for name in tables.names() {
        let table = tables.table(&name).map_err(io::Error::other)?;
        to.write_all(&[TABLE])?;
        put(to, name.as_bytes())?;
        for row in snapshot.range(&table, ..) {
            let (key, value) = row.map_err(io::Error::other)?;
            to.write_all(&[ROW])?;
            put(to, &key)?;
            put(to, &value)?;
            rows += 1;
        }
    }
    to.write_all(&[END])?;
    Ok(rows)
}

fn put(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(bytes)
}

/// What comes of an answer.
pub(crate) enum Next {
    /// A table of this name; the rows that follow are its own.
    Table(String),
    /// Key and value of a row.
    Row(Vec<u8>, Vec<u8>),
    /// That was all.
    End,
}

/// The tables of a broker that runs, as it tells of them.
pub(crate) struct Answer(BufReader<UnixStream>);

impl Answer {
    /// Asks the broker that has the data directory open.
    pub(crate) fn ask(data: &DataDir, folder: &str) -> io::Result<Self> {
        let greeting = greeting(folder);
        let (address, _folder) = address(data.path(), SOCKET)?;
        let mut stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(greeting.as_bytes())?;
        let mut answer = Self(BufReader::new(stream));
        let mut line = vec![0; greeting.len()];
        answer.0.read_exact(&mut line)?;
        match line == greeting.as_bytes() {
            true => Ok(answer),
            false => Err(io::Error::other("it is another version of Longshore")),
        }
    }

    /// What comes next.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let mut kind = [0];
        self.0.read_exact(&mut kind)?;
        match kind[0] {
            END => Ok(Next::End),
            TABLE => Ok(Next::Table(self.text()?)),
            ROW => Ok(Next::Row(self.bytes()?, self.bytes()?)),
            FAILED => Err(io::Error::other(self.text()?)),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| ErrorKind::InvalidData.into())
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.0.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        let mut bytes = Vec::new();
        // What is announced is not taken on trust.
        self.0.by_ref().take(u64::from(len)).read_to_end(&mut bytes)?;
        match bytes.len() == len as usize {
            true => Ok(bytes),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_its_owner_alone_however_long_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(90)).join("b".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        for directory in [folder.path(), &deep] {
            fs::write(directory.join(SOCKET), "of a process that was killed").unwrap();
            let listener = open(directory).unwrap();
            let mode = fs::metadata(directory.join(SOCKET)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let asking = thread::scope(|scope| {
                let asking =
                    scope.spawn(|| Answer::ask(&DataDir::at(directory), "tables").map(drop));
                let (stream, _) = listener.accept().unwrap();
                assert!(answer(&stream, |_| None).is_err());
                drop(stream);
                asking.join().unwrap()
            });
            assert_eq!(asking.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    }
}
