//! The function under the attribute.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Attribute, Error, FnArg, Result, ReturnType, Signature, Token, Type, Visibility, braced,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

/// An `async fn` without parameters. The body is not looked at: errors in it are the compiler's to explain.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        if let Some(semicolon) = input.parse::<Option<Token![;]>>()? {
            return Err(Error::new(semicolon.span, "the function has no body"));
        }
        let body;
        braced!(body in input);
        Ok(Self { attributes, visibility, signature, body: body.parse()? })
    }
}

impl Function {
    /// Checks that it can be called without anything. Reports all that is wrong, not only the first.
    pub(crate) fn check(&self, attribute: &str) -> Result<()> {
        let Signature { constness, asyncness, unsafety, abi, fn_token, generics, inputs, variadic, .. } =
            &self.signature;
        let mut errors = Errors::default();
        if asyncness.is_none() {
            errors
                .add(fn_token.span, format!("`{attribute}` needs an `async fn`: write `async` before `fn`"));
        }
        if let Some(constness) = constness {
            errors.add(constness.span(), format!("`{attribute}` cannot be on a `const fn`"));
        }
        if let Some(unsafety) = unsafety {
            errors.add(unsafety.span(), format!("`{attribute}` cannot be on an `unsafe fn`"));
        }
        if let Some(abi) = abi {
            errors.add(abi.span(), format!("`{attribute}` cannot be on an `extern fn`"));
        }
        if !generics.params.is_empty() {
            errors.add(generics.span(), format!("`{attribute}` cannot be on a generic function"));
        } else if let Some(clause) = &generics.where_clause {
            errors.add(clause.span(), format!("`{attribute}` cannot be on a function with a `where` clause"));
        }
        if !inputs.is_empty() {
            errors.add(
                inputs.span(),
                format!("`{attribute}` calls the function without arguments: remove them"),
            );
        } else if let Some(variadic) = variadic {
            errors.add(
                variadic.span(),
                format!("`{attribute}` calls the function without arguments: remove them"),
            );
        }
        errors.finish()
    }

    /// Checks that a worker can call it with arguments that it reads.
    pub(crate) fn check_isolated(&self) -> Result<()> {
        let attribute = "#[selkie::isolated]";
        let Signature { constness, asyncness, unsafety, abi, generics, inputs, variadic, output, .. } =
            &self.signature;
        let mut errors = Errors::default();
        if let Some(asyncness) = asyncness {
            let error = "needs a plain `fn`, as a worker runs one job at a time: remove `async`";
            errors.add(asyncness.span(), format!("`{attribute}` {error}"));
        }
        if let Some(constness) = constness {
            errors.add(constness.span(), format!("`{attribute}` cannot be on a `const fn`"));
        }
        if let Some(unsafety) = unsafety {
            errors.add(unsafety.span(), format!("`{attribute}` cannot be on an `unsafe fn`"));
        }
        if let Some(abi) = abi {
            errors.add(abi.span(), format!("`{attribute}` cannot be on an `extern fn`"));
        }
        if !generics.params.is_empty() {
            let error = format!("`{attribute}` cannot be on a generic function: write one for each type");
            errors.add(generics.span(), error);
        } else if let Some(clause) = &generics.where_clause {
            errors.add(clause.span(), format!("`{attribute}` cannot be on a function with a `where` clause"));
        }
        for input in inputs {
            match input {
                FnArg::Receiver(receiver) => {
                    let error =
                        format!("`{attribute}` cannot be on a method: write a function beside the type");
                    errors.add(receiver.self_token.span, error);
                }
                FnArg::Typed(parameter) => {
                    if let Type::ImplTrait(_) = &*parameter.ty {
                        errors.add(
                            parameter.ty.span(),
                            "a worker has to know the type: write it instead of `impl`",
                        );
                    }
                    for attribute in &parameter.attrs {
                        if attribute.path().is_ident("cfg") {
                            errors.add(
                                attribute.span(),
                                "what a worker is sent does not depend on `cfg`: write a function for each case",
                            );
                        }
                    }
                    if let Type::Reference(reference) = &*parameter.ty {
                        if reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static") {
                            errors.add(
                                parameter.ty.span(),
                                "a worker reads its arguments for one job: remove `'static`",
                            );
                        }
                        // The codec writes one as a list of numbers, which cannot be borrowed as bytes.
                        if matches!(&*reference.elem, Type::Slice(slice) if is_u8(&slice.elem)) {
                            errors.add(parameter.ty.span(), "bytes are copied to a worker: take a `Vec<u8>`");
                        }
                    }
                }
            }
        }
        if let ReturnType::Type(_, ty) = output {
            if let Type::ImplTrait(_) = &**ty {
                errors.add(ty.span(), "the caller has to know the type: write it instead of `impl`");
            }
        }
        if let Some(variadic) = variadic {
            errors.add(variadic.span(), format!("`{attribute}` needs a number of arguments that is known"));
        }
        errors.finish()
    }

    /// The function itself, to stand inside the one that runs it. Of the same name, which is what it is called in
    /// backtraces and in messages of the compiler.
    pub(crate) fn inner(&self) -> TokenStream {
        let Self { signature, body, .. } = self;
        quote!(#signature { #body })
    }
}

fn is_u8(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("u8"))
}

#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn add(&mut self, span: proc_macro2::Span, message: impl std::fmt::Display) {
        self.combine(Error::new(span, message));
    }

    pub(crate) fn combine(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Each attribute as it was written.
pub(crate) fn written(attributes: &[Attribute]) -> TokenStream {
    attributes.iter().map(ToTokens::to_token_stream).collect()
}
