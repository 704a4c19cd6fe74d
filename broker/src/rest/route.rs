//! The table of routes: what the router is made of, and the documents of the API.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hashbrown::HashMap;
use longshore_acl::Method;

use super::answer::Outcome;
use super::call::Call;
use super::fault::{Code, Fault};
use super::schema::Object;
use super::{auth, constants, expressions, mqtt, openapi, platform};

/// One method of one path.
#[derive(Clone, Debug)]
pub struct Route {
    /// Of HTTP.
    pub method: Method,
    /// With `{name}` for a segment that is a parameter. The first segment is the module.
    pub path: &'static str,
    /// What it does, for the documents.
    pub about: &'static str,
    /// Who may call it.
    pub gate: Gate,
    /// What is sent along.
    pub takes: Takes,
    /// The objects of its `result`, which `fields` chooses from; none if it is no list of objects.
    pub gives: Option<&'static Object>,
    /// What is done.
    pub handler: Handler,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everybody, without a token.
    Open,
    /// Whoever has a token.
    Token,
    /// Whose token opens the method on this part of the API, `mqtt`, `platform`, `gw/devices`. For
    /// some objects is enough: the handler asks which.
    Part(&'static str),
    /// Whose token opens the method on this submodule of the objects of a part.
    Sub(&'static str, &'static str),
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open | Self::Token => f.write_str("this"),
            Self::Part(uri) => f.write_str(uri),
            Self::Sub(uri, submodule) => write!(f, "{submodule} of {uri}"),
        }
    }
}

/// What is sent along.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// One object in the body.
    One(&'static Object),
    /// An array of objects in the body, or one.
    Many(&'static Object),
    /// `data` with these keys, in the query or in the body.
    Data(&'static Object),
}

/// An answer to come.
pub type Answering = Pin<Box<dyn Future<Output = Outcome>>>;

/// What is done, on a thread that may wait for the disk and compute for a while, or on that of
/// sockets: there it waits for others, and never for long in one go.
#[derive(Clone)]
#[non_exhaustive]
pub enum Handler {
    /// May wait for the disk.
    Blocking(fn(&Call) -> Outcome),
    /// Waits for others.
    Waiting(fn(Call) -> Answering),
    /// May wait for the disk, and has a state of its own.
    BlockingWith(Arc<dyn Fn(&Call) -> Outcome + Send + Sync>),
    /// Waits for others, and has a state of its own.
    WaitingWith(Arc<dyn Fn(Call) -> Answering + Send + Sync>),
}

impl Handler {
    /// One that may wait for the disk.
    pub fn blocking(work: impl Fn(&Call) -> Outcome + Send + Sync + 'static) -> Self {
        Self::BlockingWith(Arc::new(work))
    }

    /// One that waits for others.
    pub fn waiting(work: impl Fn(Call) -> Answering + Send + Sync + 'static) -> Self {
        Self::WaitingWith(Arc::new(work))
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blocking(_) | Self::BlockingWith(_) => "Blocking",
            Self::Waiting(_) | Self::WaitingWith(_) => "Waiting",
        })
    }
}

impl Route {
    /// The first segment of its path.
    pub(crate) fn module(&self) -> &'static str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    /// The route `/{module}/api.json` of the document that says what the routes of a module are.
    pub const fn document(path: &'static str) -> Self {
        openapi::document(path)
    }

    /// Whether it reads a list of objects that a selector means, of which `limit` and `offset`
    /// choose a part. What takes `data` says there how much is wanted.
    pub(crate) fn has_parts(&self) -> bool {
        let is_reading = self.method == Method::Get && matches!(self.takes, Takes::Nothing);
        is_reading && self.gives.is_some() && self.parameters().next().is_some()
    }

    fn is_document(&self) -> bool {
        self.path.ends_with(openapi::NAME)
    }

    /// The names of its parameters in the path, in their order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let segments = self.path.split('/');
        segments.filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// The routes of the broker itself.
pub(super) fn routes() -> impl Iterator<Item = &'static Route> {
    let others = [auth::ROUTES, constants::ROUTES, expressions::ROUTES, openapi::ROUTES];
    [mqtt::ROUTES, platform::ROUTES].into_iter().chain(others).flatten().copied().flatten()
}

/// Finds the route of a request.
pub(crate) struct Router {
    /// All methods of each path.
    paths: matchit::Router<Vec<Arc<Route>>>,
    routes: Vec<Arc<Route>>,
    /// Of each module that was asked for: everybody may ask, and it takes a while to make one.
    documents: Mutex<HashMap<&'static str, Bytes>>,
}

impl Router {
    /// The routes of the broker, and these of its modules; the path of one that collides with
    /// another.
    pub(crate) fn new(of_modules: Vec<Route>) -> Result<Self, &'static str> {
        let mut paths = matchit::Router::<Vec<Arc<Route>>>::new();
        let mut routes: Vec<_> = routes().cloned().map(Arc::new).collect();
        for route in of_modules {
            // Modules that share a first segment share its document.
            if !route.is_document() || routes.iter().all(|known| known.path != route.path) {
                routes.push(Arc::new(route));
            }
        }
        for route in &routes {
            match paths.at_mut(route.path) {
                Ok(found) if found.value.first().is_some_and(|it| it.path == route.path) => {
                    if found.value.iter().any(|known| known.method == route.method) {
                        return Err(route.path);
                    }
                    found.value.push(Arc::clone(route));
                }
                _ => {
                    paths.insert(route.path, vec![Arc::clone(route)]).map_err(|_| route.path)?;
                }
            }
        }
        Ok(Self { paths, routes, documents: Mutex::default() })
    }

    /// The document that says what the routes of a module are.
    pub(super) fn document(&self, module: &'static str) -> Bytes {
        // Nobody panics under the lock.
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let document = documents.entry(module).or_insert_with(|| openapi::write(self, module));
        Bytes::clone(document)
    }

    /// All routes there are.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|route| &**route)
    }

    /// The route, and the segments of the path that are parameters, encoded as they came.
    pub(crate) fn find(
        &self,
        method: &hyper::Method,
        path: &str,
    ) -> Result<(Arc<Route>, Vec<String>), Fault> {
        let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
        let found = self.paths.at(path);
        let found =
            found.map_err(|_| Fault::new(Code::NotFound, "there is nothing at this path"))?;
        let name = if *method == hyper::Method::HEAD { "GET" } else { method.as_str() };
        let route = found.value.iter().find(|route| route.method.name() == name);
        let Some(route) = route else {
            let mut names: Vec<_> = found.value.iter().map(|it| it.method.name()).collect();
            if names.contains(&"GET") {
                names.push("HEAD");
            }
            names.push("OPTIONS");
            return Err(Fault::only(&names.join(", ")));
        };
        let parameters = found.params.iter().map(|(_, value)| value.to_owned()).collect();
        Ok((Arc::clone(route), parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_by_its_own_path() {
        let router = Router::new(Vec::new()).unwrap();
        for route in router.routes() {
            let method = route.method.name().parse().unwrap();
            let (found, parameters) = router.find(&method, route.path).unwrap();
            assert!(std::ptr::eq(&*found, route), "{} {}", route.method.name(), route.path);
            assert_eq!(parameters.len(), route.parameters().count(), "{}", route.path);
            let (again, _) = router.find(&method, &format!("{}/", route.path)).unwrap();
            assert!(std::ptr::eq(&*again, route));
        }
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_not_done_there() {
        let router = Router::new(Vec::new()).unwrap();
        let code = |method: &str, path: &str| {
            let method = hyper::Method::from_bytes(method.as_bytes()).unwrap();
            router.find(&method, path).map(|(route, _)| route.path).map_err(|fault| fault.code)
        };
        assert_eq!(code("HEAD", "/platform/tokens/all"), Ok("/platform/tokens/{sel}"));
        for path in
            ["/", "", "/platform", "/platform/tokens/1/2", "//platform/tokens/1", "/nothing"]
        {
            assert_eq!(code("GET", path), Err(Code::NotFound), "{path}");
        }
        for method in ["BREW", "TRACE", "get"] {
            assert_eq!(code(method, "/platform/tokens/all"), Err(Code::Method), "{method}");
        }
        let fault = router.find(&hyper::Method::POST, "/platform/tokens/all").unwrap_err();
        assert_eq!(fault.header().unwrap().1, "GET, PUT, PATCH, DELETE, HEAD, OPTIONS");
    }
}
