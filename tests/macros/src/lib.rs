//! `#[scene_test]`, for end-to-end tests that begin with a scene. The function is compiled as it stands, so that its
//! compile errors, and the places of its panics, are its own.

use std::iter::once;

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Runs `async fn name(scene: &mut Scene) -> Result<()>` as a test on a scene of its own. In parentheses: how the relay
/// is set differently, as a function of `Settings`.
#[proc_macro_attribute]
pub fn scene_test(settings: TokenStream, test: TokenStream) -> TokenStream {
    let mut tokens = test.into_iter().peekable();
    let mut attributes = TokenStream::new();
    while tokens.peek().is_some_and(|token| matches!(token, TokenTree::Punct(sign) if sign.as_char() == '#'))
    {
        attributes.extend(tokens.by_ref().take(2));
    }
    let function: TokenStream = tokens.collect();
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let Some(name) = function.clone().into_iter().skip_while(|token| !is_fn(token)).nth(1) else {
        return rust("compile_error!(\"#[scene_test] is for functions\");");
    };

    let (with, arguments) = if settings.is_empty() {
        ("crate::scene::with_scene", TokenStream::from(name.clone()))
    } else {
        let name = [rust(","), name.clone().into()];
        ("crate::scene::with_settings", once(settings).chain(name).collect())
    };
    let call = [rust(with), group(Delimiter::Parenthesis, arguments), rust(".await")];
    let body = once(function).chain(call).collect();
    [
        attributes,
        rust("#[::tokio::test(flavor = \"multi_thread\", worker_threads = 2)] async fn"),
        name.into(),
        group(Delimiter::Parenthesis, TokenStream::new()),
        group(Delimiter::Brace, body),
    ]
    .into_iter()
    .collect()
}

fn rust(text: &str) -> TokenStream {
    text.parse().expect("this is Rust")
}

fn group(delimiter: Delimiter, inside: TokenStream) -> TokenStream {
    TokenTree::from(Group::new(delimiter, inside)).into()
}
