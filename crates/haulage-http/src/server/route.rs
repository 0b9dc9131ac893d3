//! One thing that can be asked for, and what is said of it.

use std::{future::Future, pin::Pin, sync::Arc};

use hyper::Method;

use super::{Api, keys::Scope, reply::Reply, request::Request};
use crate::Problem;

/// Schemas.
pub(super) const TEXT: &str = r#"{"type":"string"}"#;
pub(super) const QUEUE: &str = r##"{"$ref":"#/components/schemas/QueueName"}"##;

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// One thing that can be asked for.
pub(super) struct Route {
    pub(super) method: Method,
    /// With `{name}` for what differs.
    pub(super) path: &'static str,
    /// Whoever has one of these scopes; anybody, where there are none.
    pub(super) scopes: &'static [Scope],
    /// What it does, in a line; of pages, and of a route that is for this crate's backend alone, nothing.
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// The schema of the body, and its media types.
    pub(super) body: Option<(&'static str, &'static [&'static str])>,
    /// Status, what it means, and the schema of what comes with it: of each form, where there are several.
    pub(super) answers: &'static [(u16, &'static str, &'static str)],
    pub(super) handler: fn(Arc<Api>, Request) -> Answer,
}

/// A query parameter, or where its name says so, a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) is_header: bool,
    /// A JSON schema.
    pub(super) schema: &'static str,
    pub(super) what: &'static str,
}

pub(super) const fn query(name: &'static str, schema: &'static str, what: &'static str) -> Parameter {
    Parameter { name, is_header: false, schema, what }
}

pub(super) const fn header(name: &'static str, what: &'static str) -> Parameter {
    Parameter { name, is_header: true, schema: TEXT, what }
}

impl Parameter {
    pub(super) const fn schema(mut self, schema: &'static str) -> Self {
        self.schema = schema;
        self
    }
}

impl Route {
    pub(super) fn new(
        method: Method,
        path: &'static str,
        scopes: &'static [Scope],
        handler: fn(Arc<Api>, Request) -> Answer,
    ) -> Self {
        Self { method, path, scopes, summary: "", parameters: &[], body: None, answers: &[], handler }
    }

    pub(super) fn get(
        path: &'static str,
        scopes: &'static [Scope],
        handler: fn(Arc<Api>, Request) -> Answer,
    ) -> Self {
        Self::new(Method::GET, path, scopes, handler)
    }

    pub(super) fn post(
        path: &'static str,
        scopes: &'static [Scope],
        handler: fn(Arc<Api>, Request) -> Answer,
    ) -> Self {
        Self::new(Method::POST, path, scopes, handler)
    }

    pub(super) const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub(super) const fn parameters(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) const fn body(mut self, schema: &'static str, kinds: &'static [&'static str]) -> Self {
        self.body = Some((schema, kinds));
        self
    }

    pub(super) const fn answers(mut self, answers: &'static [(u16, &'static str, &'static str)]) -> Self {
        self.answers = answers;
        self
    }

    /// The names in its path.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// The parameters of its query.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.parameters.iter().filter(|parameter| !parameter.is_header).map(|parameter| parameter.name)
    }
}

/// A handler, in the form that the list has.
macro_rules! to {
    ($handler:path) => {
        |api, request| Box::pin($handler(api, request))
    };
}

pub(super) use to;
