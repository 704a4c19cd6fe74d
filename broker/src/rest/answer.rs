//! The answer to a request: objects, errors beside them, and the way they go out, a piece at a time
//! as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fault::Fault;

/// Bytes that are written before the client is asked whether it takes more.
const PIECE_BYTES: usize = 32 << 10;
/// Entries of `errors` in one answer; further ones are left out.
const FAULTS_MAX: usize = 10_000;

/// The member that says what part of a list is answered.
const PAGINATION: &str = "pagination";

/// What a handler comes to.
pub type Outcome = Result<Answer, Fault>;

/// Objects, as they are at hand or come.
pub enum Items {
    /// Made when their turn comes, which takes no time worth mentioning.
    Made(Box<dyn Iterator<Item = Value> + Send>),
    /// From elsewhere. Whoever sends them waits when the client does not read; a fault goes into
    /// `errors` and does not end the answer. Room for a few is enough.
    Sent(mpsc::Receiver<Result<Value, Fault>>),
    /// The same for what is JSON already, and for what is known of it only at its end.
    Written(mpsc::Receiver<Result<Written, Fault>>),
}

/// A piece of an answer that is written elsewhere.
#[derive(Debug)]
pub enum Written {
    /// One object or several: their JSON, with commas between them.
    Objects(Bytes),
    /// A member that stands beside `result`, of this name.
    Beside(&'static str, Value),
}

/// An answer that is not an error as a whole.
pub struct Answer {
    body: Content,
    status: StatusCode,
}

enum Content {
    Objects(Objects),
    /// JSON that is no list of objects.
    Document(Bytes),
}

/// The usual form: `result`, which may be empty, `errors` if there are any, and what else there is
/// to say of them.
struct Objects {
    items: Items,
    faults: Vec<Fault>,
    beside: Vec<(&'static str, Value)>,
    cut: Option<Part>,
}

/// Which part of a list was asked for, and of how many.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Objects that were asked for at most.
    pub limit: Option<u64>,
    /// Objects before the first of them.
    pub offset: u64,
    /// Objects of the whole list.
    pub count: u64,
}

impl Part {
    fn to_json(self) -> Value {
        json!({"limit": self.limit, "offset": self.offset, "count": self.count})
    }

    /// Counts the next object; whether it is of this part.
    fn takes_next(&mut self) -> bool {
        let at = self.count;
        self.count += 1;
        at >= self.offset && self.limit.is_none_or(|limit| at - self.offset < limit)
    }

    /// Those of several objects that are of this part, as they were written.
    fn take_of(&mut self, written: Bytes) -> Option<Bytes> {
        let list = [b"[", &written[..], b"]"].concat();
        let Ok(objects) = serde_json::from_slice::<Vec<&RawValue>>(&list) else {
            return Some(written);
        };
        let taken = objects.into_iter().filter(|_| self.takes_next()).map(RawValue::get);
        let taken = taken.collect::<Vec<_>>().join(",");
        (!taken.is_empty()).then(|| taken.into())
    }
}

impl Answer {
    /// These objects.
    pub fn of(values: impl IntoIterator<Item = Value>) -> Self {
        let values: Vec<_> = values.into_iter().collect();
        Self::objects(Items::Made(Box::new(values.into_iter())))
    }

    /// The objects that come from there.
    pub fn objects(items: Items) -> Self {
        let objects = Objects { items, faults: Vec::new(), beside: Vec::new(), cut: None };
        Self { body: Content::Objects(objects), status: StatusCode::OK }
    }

    /// What was done, and what was not. An error as a whole if nothing was.
    pub fn partly(values: Vec<Value>, faults: Vec<Fault>) -> Self {
        let status = faults.first().filter(|_| values.is_empty()).map(|fault| fault.code.status());
        let answer = Self::of(values).with_faults(faults);
        Self { status: status.unwrap_or(StatusCode::OK), ..answer }
    }

    /// JSON that is no list of objects.
    pub fn document(document: Bytes) -> Self {
        Self { body: Content::Document(document), status: StatusCode::OK }
    }

    /// The same with errors beside the objects.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        if let Content::Objects(objects) = &mut self.body {
            objects.faults = faults;
        }
        self
    }

    /// The same, which says what part of a list it is.
    #[must_use]
    pub fn with_part(self, part: Part) -> Self {
        self.beside(PAGINATION, part.to_json())
    }

    /// This part of its objects, unless it is a part already, or no list. All of them come to their
    /// turn, for they are counted; those of other parts are left out as they come.
    #[must_use]
    pub(crate) fn cut(mut self, limit: Option<u64>, offset: u64) -> Self {
        if let Content::Objects(objects) = &mut self.body
            && self.status == StatusCode::OK
            && objects.beside.iter().all(|(name, _)| *name != PAGINATION)
        {
            objects.cut = Some(Part { limit, offset, count: 0 });
        }
        self
    }

    /// The same with a member beside `result`.
    #[must_use]
    pub fn beside(mut self, name: &'static str, value: Value) -> Self {
        if let Content::Objects(objects) = &mut self.body {
            objects.beside.push((name, value));
        }
        self
    }

    /// Its objects and errors, for one that has others beside them; none of JSON of another form.
    pub fn into_parts(self) -> (Items, Vec<Fault>) {
        match self.body {
            Content::Objects(Objects { items, faults, .. }) => (items, faults),
            Content::Document(_) => (Items::Made(Box::new(std::iter::empty())), Vec::new()),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body of the answer. One that fits into a piece is whole at once, and so has a length.
    pub(crate) fn into_body(self) -> Body {
        match self.body {
            Content::Document(document) => Body::from(document),
            Content::Objects(objects) => {
                let mut pieces = Pieces::of(objects);
                // What is at hand waits for nobody.
                let mut context = Context::from_waker(Waker::noop());
                if let Items::Made(_) = pieces.objects.items
                    && let Poll::Ready(Some(first)) = pieces.next(&mut context)
                {
                    if pieces.stage == Stage::Over {
                        return Body::from(first);
                    }
                    pieces.first = Some(first);
                }
                Body::from_form(Form::Pieces(Box::new(pieces)))
            }
        }
    }
}

/// The body of an answer.
pub(crate) struct Body {
    form: Form,
    /// Told of the bytes of each piece.
    on_piece: Option<Box<dyn Fn(usize)>>,
}

enum Form {
    Whole(Bytes),
    Pieces(Box<Pieces>),
}

impl Body {
    fn from_form(form: Form) -> Self {
        Self { form, on_piece: None }
    }

    /// From now on this is told of the bytes of each piece that goes out.
    pub(crate) fn on_piece(&mut self, tell: impl Fn(usize) + 'static) {
        self.on_piece = Some(Box::new(tell));
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(whole: T) -> Self {
        Self::from_form(Form::Whole(whole.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = match &mut self.form {
            Form::Whole(whole) if whole.is_empty() => None,
            Form::Whole(whole) => Some(std::mem::take(whole)),
            Form::Pieces(pieces) => match pieces.next(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => return Poll::Pending,
            },
        };
        if let (Some(tell), Some(piece)) = (&self.on_piece, &piece) {
            tell(piece.len());
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.form {
            Form::Whole(whole) => whole.is_empty(),
            Form::Pieces(pieces) => pieces.first.is_none() && pieces.stage == Stage::Over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.form {
            Form::Whole(whole) => SizeHint::with_exact(whole.len() as u64),
            Form::Pieces(_) => SizeHint::default(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is written yet.
    Fresh,
    /// The last object was the first.
    First,
    More,
    Over,
}

/// Writes objects as a client takes them.
struct Pieces {
    objects: Objects,
    stage: Stage,
    first: Option<Bytes>,
}

impl Pieces {
    fn of(objects: Objects) -> Self {
        Self { objects, stage: Stage::Fresh, first: None }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.stage == Stage::Over {
            return Poll::Ready(None);
        }
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            match self.objects.items.next(cx) {
                Poll::Ready(Some(Ok(Next::Object(value)))) => {
                    if self.objects.cut.as_mut().is_none_or(Part::takes_next) {
                        self.begin_object(&mut piece);
                        put(&mut piece, &value);
                    }
                }
                Poll::Ready(Some(Ok(Next::Written(Written::Objects(written))))) => {
                    let written = match &mut self.objects.cut {
                        Some(part) => part.take_of(written),
                        None => Some(written),
                    };
                    if let Some(written) = written {
                        self.begin_object(&mut piece);
                        piece.extend_from_slice(&written);
                    }
                }
                Poll::Ready(Some(Ok(Next::Written(Written::Beside(name, value))))) => {
                    self.objects.beside.push((name, value));
                }
                Poll::Ready(Some(Err(fault))) if self.objects.faults.len() < FAULTS_MAX => {
                    self.objects.faults.push(fault);
                }
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) => {
                    self.end(&mut piece);
                    break;
                }
                Poll::Pending if piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(piece.into()))
    }

    /// Writes what stands before an object.
    fn begin_object(&mut self, piece: &mut Vec<u8>) {
        let (before, next): (&[u8], _) = match self.stage {
            Stage::Fresh => (b"{\"result\":[", Stage::First),
            _ => (b",", Stage::More),
        };
        piece.extend_from_slice(before);
        self.stage = next;
    }

    fn end(&mut self, piece: &mut Vec<u8>) {
        let Objects { faults, beside, cut, .. } = &mut self.objects;
        beside.extend(cut.take().map(|part| (PAGINATION, part.to_json())));
        let end: &[u8] = if self.stage == Stage::Fresh { b"{\"result\":[]" } else { b"]" };
        piece.extend_from_slice(end);
        if !faults.is_empty() {
            let errors: Vec<_> = faults.iter().take(FAULTS_MAX).map(Fault::to_json).collect();
            piece.extend_from_slice(b",\"errors\":");
            put(piece, &errors.into());
        }
        for (name, value) in beside {
            piece.extend_from_slice(format!(",\"{name}\":").as_bytes());
            put(piece, value);
        }
        piece.extend_from_slice(b"}\n");
        self.stage = Stage::Over;
    }
}

fn put(piece: &mut Vec<u8>, value: &Value) {
    // Values of JSON have no keys that are no texts, and memory does not refuse to be written to.
    serde_json::to_writer(piece, value).expect("JSON is written to memory");
}

enum Next {
    Object(Value),
    Written(Written),
}

impl Items {
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Next, Fault>>> {
        match self {
            Self::Made(items) => Poll::Ready(items.next().map(|it| Ok(Next::Object(it)))),
            Self::Sent(items) => items.poll_recv(cx).map(|it| it.map(|it| it.map(Next::Object))),
            Self::Written(items) => {
                items.poll_recv(cx).map(|it| it.map(|it| it.map(Next::Written)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::fault::Code;

    /// What can be read at once, and whether that is all.
    fn read(body: &mut Body) -> (String, bool) {
        let mut text = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut *body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => text.extend(frame.into_data().unwrap()),
                Poll::Ready(None) => return (String::from_utf8(text).unwrap(), true),
                Poll::Pending => return (String::from_utf8(text).unwrap(), false),
            }
        }
    }

    /// Broker specification, 15.1.2; of the modules: R2.17.
    #[test]
    fn an_answer_has_result_errors_and_pagination() {
        let fault = || vec![Fault::new(Code::Format, "no")];
        let part = Part { limit: Some(1), offset: 2, count: 3 };
        let rows = [
            (Answer::of([]), 200, "{\"result\":[]}\n"),
            (Answer::of([json!(1), json!({"a": 2})]), 200, "{\"result\":[1,{\"a\":2}]}\n"),
            (
                Answer::partly(vec![json!(1)], fault()),
                200,
                "{\"result\":[1],\"errors\":[{\"code\":3,\"reason\":\"no\"}]}\n",
            ),
            (
                Answer::partly(Vec::new(), fault()),
                400,
                "{\"result\":[],\"errors\":[{\"code\":3,\"reason\":\"no\"}]}\n",
            ),
            (
                Answer::of([json!(1)]).with_part(part),
                200,
                "{\"result\":[1],\"pagination\":{\"count\":3,\"limit\":1,\"offset\":2}}\n",
            ),
        ];
        for (answer, status, want) in rows {
            assert_eq!(answer.status().as_u16(), status, "{want}");
            let mut body = answer.into_body();
            assert_eq!(body.size_hint().exact(), Some(want.len() as u64));
            assert_eq!(read(&mut body), (want.to_owned(), true));
            assert!(body.is_end_stream());
        }
    }

    #[test]
    fn a_long_answer_goes_out_in_pieces() {
        let count = 100_000;
        let mut body = Answer::of((0..count).map(Value::from)).into_body();
        assert_eq!(body.size_hint().exact(), None);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_frame(&mut context) else {
            panic!("there is a first piece");
        };
        let piece = piece.into_data().unwrap();
        assert!(piece.len() < PIECE_BYTES + 16);
        let (rest, is_all) = read(&mut body);
        let whole = String::from_utf8(piece.to_vec()).unwrap() + &rest;
        let value: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(value["result"].as_array().unwrap().len(), count);
        assert!(is_all);
    }

    #[test]
    fn what_comes_from_elsewhere_is_passed_on_as_it_comes() {
        let (send, items) = mpsc::channel(2);
        let mut body = Answer::objects(Items::Sent(items)).into_body();
        assert_eq!(read(&mut body), (String::new(), false));
        send.try_send(Ok(json!(1))).unwrap();
        send.try_send(Err(Fault::not_found(5))).unwrap();
        assert!(send.try_send(Ok(json!(2))).is_err(), "whoever sends waits for the reader");
        assert_eq!(read(&mut body), ("{\"result\":[1".to_owned(), false));
        send.try_send(Ok(json!(2))).unwrap();
        drop(send);
        let want = ",2],\"errors\":[{\"code\":6,\"id\":5,\"reason\":\"no such object\"}]}\n";
        assert_eq!(read(&mut body), (want.to_owned(), true));
    }

    #[test]
    fn there_are_so_many_errors_and_no_more_also_where_there_is_no_object() {
        let faults = || (0..FAULTS_MAX as u64 + 1).map(Fault::not_found);
        let (send, items) = mpsc::channel(FAULTS_MAX + 1);
        faults().for_each(|fault| send.try_send(Err(fault)).unwrap());
        drop(send);
        let known = Answer::of([]).with_faults(faults().collect());
        for answer in [known, Answer::objects(Items::Sent(items))] {
            let text = read(&mut answer.into_body()).0;
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["errors"].as_array().unwrap().len(), FAULTS_MAX);
        }
    }

    /// Spec of the modules, R2.10.
    #[test]
    fn a_part_is_cut_of_what_comes_in_whatever_form() {
        let objects = || (1..=5).map(|id| json!({"id": id}));
        let sent = || {
            let (send, items) = mpsc::channel(8);
            objects().for_each(|object| send.try_send(Ok(object)).unwrap());
            Items::Sent(items)
        };
        let written = || {
            let (send, items) = mpsc::channel(8);
            for pieces in ["{\"id\":1},{\"id\":2}", "{\"id\":3}", "{\"id\":4},{\"id\":5}"] {
                send.try_send(Ok(Written::Objects(pieces.into()))).unwrap();
            }
            Items::Written(items)
        };
        let rows = [
            (Some(2), 1, json!([{"id": 2}, {"id": 3}])),
            (None, 3, json!([{"id": 4}, {"id": 5}])),
            (Some(0), 0, json!([])),
            (Some(9), 5, json!([])),
        ];
        for (limit, offset, want) in rows {
            let made = Items::Made(Box::new(objects()));
            for answer in [made, sent(), written()].map(Answer::objects) {
                let text = read(&mut answer.cut(limit, offset).into_body()).0;
                let part = json!({"limit": limit, "offset": offset, "count": 5});
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value, json!({"result": want, "pagination": part}), "{text}");
            }
        }
        let part = Part { limit: Some(1), offset: 0, count: 9 };
        let known = Answer::of([json!(1)]).with_part(part).cut(None, 1);
        assert!(read(&mut known.into_body()).0.starts_with("{\"result\":[1],"), "it is a part");
        let refused = Answer::partly(Vec::new(), vec![Fault::not_found(5)]).cut(None, 1);
        assert!(!read(&mut refused.into_body()).0.contains(PAGINATION), "nothing was found");
    }

    #[test]
    fn what_is_written_elsewhere_goes_out_as_it_is() {
        let (send, items) = mpsc::channel(4);
        let mut body = Answer::objects(Items::Written(items)).beside("of", json!(1)).into_body();
        for pieces in ["{\"a\":1},{\"a\":2}", "{\"a\":3}"] {
            send.try_send(Ok(Written::Objects(pieces.into()))).unwrap();
        }
        send.try_send(Ok(Written::Beside("next", json!(7)))).unwrap();
        drop(send);
        let want = "{\"result\":[{\"a\":1},{\"a\":2},{\"a\":3}],\"of\":1,\"next\":7}\n";
        assert_eq!(read(&mut body), (want.to_owned(), true));
    }
}
