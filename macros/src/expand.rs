//! What the attributes expand to, on the level of tokens.

use std::ops::Range;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Error, FnArg, Ident, LitInt, Pat, Result, ReturnType, Token, Type,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    parse_quote,
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::function::{Errors, Function, written};

pub(crate) fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    try_main(options, item).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        // The compiler would go on to say that there is no `main`.
        quote!(#error fn main() {})
    })
}

pub(crate) fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    try_test(options, item).unwrap_or_else(Error::into_compile_error)
}

fn try_main(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: Function = syn::parse2(item)?;
    let mut errors = Errors::default();
    if !options.is_empty() {
        let error = "`#[selkie::main]` has no options: call `selkie::run` or a `Runner` from a plain `main`";
        errors.combine(Error::new_spanned(&options, error));
    }
    if let Err(error) = function.check("#[selkie::main]") {
        errors.combine(error);
    }
    errors.finish()?;

    let attributes = written(&function.attributes);
    let visibility = &function.visibility;
    let name = &function.signature.ident;
    let inner = function.inner();
    Ok(quote! {
        #attributes
        #visibility fn #name() -> impl ::std::process::Termination {
            #inner
            ::selkie::__private::main(#name)
        }
    })
}

fn try_test(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: Function = syn::parse2(item)?;
    let mut errors = Errors::default();
    let options = Options::parse.parse2(options).unwrap_or_else(|error| {
        errors.combine(error);
        Options::default()
    });
    if let Err(error) = function.check("#[selkie::test]") {
        errors.combine(error);
    }
    for attribute in function.attributes.iter().filter(|attribute| attribute.path().is_ident("test")) {
        errors.combine(Error::new_spanned(
            attribute,
            "`#[selkie::test]` makes it a test already: remove `#[test]`",
        ));
    }
    errors.finish()?;

    let attributes = written(&function.attributes);
    let visibility = &function.visibility;
    let name = &function.signature.ident;
    let output = &function.signature.output;
    let inner = function.inner();
    let (asyncness, native, web) = if options.sim {
        let name_text = format!("::{}", name.unraw());
        let seeds = match options.seeds {
            None => quote!(::core::option::Option::None),
            Some(Range { start, end }) => quote!(::core::option::Option::Some(#start..#end)),
        };
        let call = quote! {
            ::selkie::__private::test_sim(
                ::selkie::__private::SimOptions {
                    name: ::core::concat!(::core::module_path!(), #name_text),
                    seeds: #seeds,
                },
                #name,
            )
        };
        (None, call.clone(), call)
    } else {
        let call = quote!(::selkie::__private::test(#name));
        (Some(quote!(async)), call.clone(), quote!(#call.await))
    };
    // `test` on the web too: `#[test]` takes the function out of other builds, `#[wasm_bindgen_test]` does not.
    Ok(quote! {
        #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
        #[::core::prelude::v1::test]
        #attributes
        #visibility fn #name() #output {
            #inner
            #native
        }

        #[cfg(all(test, target_family = "wasm", target_os = "unknown"))]
        #[::wasm_bindgen_test::wasm_bindgen_test]
        #attributes
        #visibility #asyncness fn #name() #output {
            #inner
            #web
        }
    })
}

pub(crate) fn isolated(options: TokenStream, item: TokenStream) -> TokenStream {
    try_isolated(options, item).unwrap_or_else(Error::into_compile_error)
}

fn try_isolated(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let function: Function = syn::parse2(item)?;
    let mut errors = Errors::default();
    if !options.is_empty() {
        errors.combine(Error::new_spanned(&options, "`#[selkie::isolated]` has no options"));
    }
    if let Err(error) = function.check_isolated() {
        errors.combine(error);
    }
    errors.finish()?;

    let attributes = written(&function.attributes);
    let visibility = &function.visibility;
    let name = &function.signature.ident;
    let name_text = format!("::{}", name.unraw());
    let inner = function.inner();
    let unit: Type = parse_quote!(());
    let output = match &function.signature.output {
        ReturnType::Default => &unit,
        ReturnType::Type(_, output) => output,
    };
    let mut parameters = Vec::new();
    let mut names = Vec::new();
    // Inside, where a parameter that has the name of the function must not hide it.
    let mut places = Vec::new();
    let mut types = Vec::new();
    for (place, parameter) in function.signature.inputs.iter().enumerate() {
        let FnArg::Typed(parameter) = parameter else { continue };
        let parameter_name = match &*parameter.pat {
            Pat::Ident(pattern) if pattern.subpat.is_none() => {
                let mut name = pattern.ident.clone();
                // It is used here, and clippy would tell the user. It meets none of our own names, which begin otherwise.
                if name.to_string().starts_with('_') {
                    name.set_span(Span::mixed_site().located_at(name.span()));
                }
                name
            }
            pattern => own(&format!("argument_{place}"), pattern.span()),
        };
        let ty = &parameter.ty;
        let attributes = &parameter.attrs;
        parameters.push(quote!(#(#attributes)* #parameter_name: #ty));
        names.push(parameter_name);
        places.push(own(&format!("argument_{place}"), parameter.pat.span()));
        types.push(ty);
    }
    // Errors about what cannot be sent point at its type.
    let arguments = own("arguments", Span::call_site());
    let call = quote_spanned!(output.span()=> ::selkie::__private::call::<_, #output>);
    let run = quote_spanned!(output.span()=> ::selkie::__private::run::<_, #output>);
    Ok(quote! {
        #attributes
        #visibility fn #name(#(#parameters),*) -> ::selkie::isolated::Call<#output> {
            #call(
                {
                    #inner
                    fn __selkie_run(#arguments: &[u8]) -> ::std::vec::Vec<u8> {
                        #run(#arguments, |(#(#places,)*): (#(#types,)*)| #name(#(#places),*))
                    }
                    static __SELKIE_JOB: ::selkie::__private::Job = ::selkie::__private::Job::new(
                        ::core::concat!(::core::module_path!(), #name_text),
                        ::core::concat!(::core::file!(), ":", ::core::line!(), ":", ::core::column!()),
                        __selkie_run,
                    );
                    ::selkie::__private::inventory::submit! {
                        ::selkie::__private::Registered::new(&__SELKIE_JOB)
                    }
                    &__SELKIE_JOB
                },
                &(#(#names,)*),
            )
        }
    })
}

/// A name that meets none of the user's.
fn own(name: &str, span: Span) -> Ident {
    Ident::new(name, Span::mixed_site().located_at(span))
}

/// The options of `#[selkie::test]`.
#[derive(Default)]
struct Options {
    sim: bool,
    seeds: Option<Range<u64>>,
}

impl Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut errors = Errors::default();
        let mut sim = false;
        let mut seeds: Option<(Span, Range<u64>)> = None;
        for Choice { name, value } in Punctuated::<Choice, Token![,]>::parse_terminated(input)? {
            match (name.to_string().as_str(), value) {
                ("sim", None) if sim => errors.add(name.span(), "`sim` stands twice"),
                ("sim", None) => sim = true,
                ("sim", Some(value)) => errors.add(value.span(), "`sim` takes no value"),
                ("seed" | "seeds", None) => {
                    errors.add(name.span(), format!("`{name}` needs a number: `{name} = 7`"))
                }
                ("seed" | "seeds", Some(_)) if seeds.is_some() => {
                    errors.add(name.span(), "a second choice of seeds: keep one `seed` or `seeds`");
                }
                (text @ ("seed" | "seeds"), Some(value)) => match range(text == "seed", &value) {
                    Ok(range) => seeds = Some((name.span(), range)),
                    Err(error) => errors.combine(error),
                },
                _ => errors.add(
                    name.span(),
                    format!("unknown option `{name}`: there are `sim`, `seed = 7` and `seeds = 100`"),
                ),
            }
        }
        if let (false, Some((span, _))) = (sim, &seeds) {
            errors.add(*span, "only the simulator has seeds: write `sim` too");
        }
        errors.finish()?;
        Ok(Self { sim, seeds: seeds.map(|(_, seeds)| seeds) })
    }
}

struct Choice {
    name: Ident,
    value: Option<LitInt>,
}

impl syn::parse::Parse for Choice {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        let equals: Option<Token![=]> = input.parse()?;
        let value = equals.map(|_| input.parse()).transpose()?;
        Ok(Self { name, value })
    }
}

/// The seeds that `seed = value` or `seeds = value` asks for.
fn range(single: bool, value: &LitInt) -> Result<Range<u64>> {
    let number: u64 = value.base10_parse()?;
    if !single {
        return if number > 0 {
            Ok(0..number)
        } else {
            Err(Error::new(value.span(), "a test needs at least one seed"))
        };
    }
    match number.checked_add(1) {
        Some(end) => Ok(number..end),
        None => Err(Error::new(value.span(), "this seed is too large by one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expands(actual: Result<TokenStream>, expected: TokenStream) {
        let actual = actual.unwrap_or_else(|error| panic!("{error}"));
        // Reparsing may join `>` and `>` or not, so spaces say nothing.
        let text = |tokens: TokenStream| tokens.to_string().replace(' ', "");
        assert_eq!(text(actual), text(expected));
    }

    type Expand = fn(TokenStream, TokenStream) -> Result<TokenStream>;

    /// Asserts all messages of an expansion and the source text that each points at, in order of the text.
    #[track_caller]
    fn fails(expand: Expand, options: &str, item: &str, expected: &[(&str, &str)]) {
        let options: TokenStream = options.parse().unwrap();
        let Err(errors) = expand(options, item.parse().unwrap()) else { panic!("it expands") };
        let errors: Vec<_> = errors
            .into_iter()
            .map(|error| (error.span().source_text().unwrap_or_default(), error.to_string()))
            .collect();
        let errors: Vec<_> = errors.iter().map(|(text, error)| (text.as_str(), error.as_str())).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn main_wraps_the_function_and_keeps_its_attributes() {
        expands(
            try_main(
                quote!(),
                quote! {
                    /// Documented.
                    #[allow(unused)]
                    pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
                        work().await?;
                        Ok(())
                    }
                },
            ),
            quote! {
                /// Documented.
                #[allow(unused)]
                pub(crate) fn main() -> impl ::std::process::Termination {
                    async fn main() -> Result<(), Box<dyn Error>> {
                        work().await?;
                        Ok(())
                    }
                    ::selkie::__private::main(main)
                }
            },
        );
    }

    #[test]
    fn main_may_have_another_name_and_inner_attributes() {
        expands(
            try_main(
                quote!(),
                quote!(
                    async fn start() {
                        #![allow(unused)]
                        let x = 1;
                    }
                ),
            ),
            quote! {
                fn start() -> impl ::std::process::Termination {
                    async fn start() { #![allow(unused)] let x = 1; }
                    ::selkie::__private::main(start)
                }
            },
        );
    }

    #[test]
    fn test_becomes_a_test_of_each_target() {
        expands(
            try_test(
                quote!(),
                quote!(
                    #[should_panic = "slow"]
                    async fn waits() -> Result<(), E> {
                        body()
                    }
                ),
            ),
            quote! {
                #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
                #[::core::prelude::v1::test]
                #[should_panic = "slow"]
                fn waits() -> Result<(), E> {
                    async fn waits() -> Result<(), E> { body() }
                    ::selkie::__private::test(waits)
                }

                #[cfg(all(test, target_family = "wasm", target_os = "unknown"))]
                #[::wasm_bindgen_test::wasm_bindgen_test]
                #[should_panic = "slow"]
                async fn waits() -> Result<(), E> {
                    async fn waits() -> Result<(), E> { body() }
                    ::selkie::__private::test(waits).await
                }
            },
        );
    }

    #[test]
    fn sim_is_synchronous_on_every_target_and_takes_seeds() {
        for (options, seeds) in [
            (quote!(sim), quote!(::core::option::Option::None)),
            (quote!(sim,), quote!(::core::option::Option::None)),
            (quote!(sim, seed = 7), quote!(::core::option::Option::Some(7u64..8u64))),
            (quote!(seed = 0, sim), quote!(::core::option::Option::Some(0u64..1u64))),
            (quote!(sim, seeds = 1_00), quote!(::core::option::Option::Some(0u64..100u64))),
            (quote!(sim, seed = 0xffu64), quote!(::core::option::Option::Some(255u64..256u64))),
        ] {
            expands(
                try_test(
                    options,
                    quote!(
                        #[should_panic]
                        async fn r#match() {}
                    ),
                ),
                quote! {
                    #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
                    #[::core::prelude::v1::test]
                    #[should_panic]
                    fn r#match() {
                        async fn r#match() {}
                        ::selkie::__private::test_sim(
                            ::selkie::__private::SimOptions {
                                name: ::core::concat!(::core::module_path!(), "::match"),
                                seeds: #seeds,
                            },
                            r#match,
                        )
                    }

                    #[cfg(all(test, target_family = "wasm", target_os = "unknown"))]
                    #[::wasm_bindgen_test::wasm_bindgen_test]
                    #[should_panic]
                    fn r#match() {
                        async fn r#match() {}
                        ::selkie::__private::test_sim(
                            ::selkie::__private::SimOptions {
                                name: ::core::concat!(::core::module_path!(), "::match"),
                                seeds: #seeds,
                            },
                            r#match,
                        )
                    }
                },
            );
        }
    }

    #[test]
    fn errors_about_the_function_point_at_what_is_wrong() {
        let main = "#[selkie::main]";
        let not_async = format!("`{main}` needs an `async fn`: write `async` before `fn`");
        let arguments = format!("`{main}` calls the function without arguments: remove them");
        fails(try_main, "", "fn main() {}", &[("fn", &not_async)]);
        fails(try_main, "", "async fn main(args: Vec<String>) {}", &[("args: Vec<String>", &arguments)]);
        fails(try_main, "", "async fn main(&self) {}", &[("&self", &arguments)]);
        let generic = format!("`{main}` cannot be on a generic function");
        fails(try_main, "", "async fn main<T: Copy>() {}", &[("<T: Copy>", &generic)]);
        let clause = format!("`{main}` cannot be on a function with a `where` clause");
        fails(try_main, "", "async fn main() where u8: Copy {}", &[("where u8: Copy", &clause)]);
        fails(
            try_main,
            "",
            "async unsafe fn main() {}",
            &[("unsafe", "`#[selkie::main]` cannot be on an `unsafe fn`")],
        );
        let foreign = "`#[selkie::main]` cannot be on an `extern fn`";
        fails(try_main, "", "async extern \"C\" fn main() {}", &[("extern \"C\"", foreign)]);
        let constant = "`#[selkie::main]` cannot be on a `const fn`";
        fails(try_main, "", "const fn main() {}", &[("fn", &not_async), ("const", constant)]);
        // Both at once: one round of the compiler is enough.
        fails(try_main, "", "fn main(x: u8) {}", &[("fn", &not_async), ("x: u8", &arguments)]);
        fails(try_main, "", "async fn main();", &[(";", "the function has no body")]);
        fails(
            try_test,
            "",
            "fn t() {}",
            &[("fn", "`#[selkie::test]` needs an `async fn`: write `async` before `fn`")],
        );
    }

    #[test]
    fn what_is_not_a_function_is_an_error() {
        assert!(
            try_main(
                quote!(),
                quote!(
                    struct Main;
                )
            )
            .is_err()
        );
        assert!(
            try_test(
                quote!(),
                quote!(
                    const X: u8 = 1;
                )
            )
            .is_err()
        );
        assert!(try_test(quote!(), quote!()).is_err());
    }

    #[test]
    fn main_has_no_options() {
        let error = "`#[selkie::main]` has no options: call `selkie::run` or a `Runner` from a plain `main`";
        fails(try_main, "threads = 4", "async fn main() {}", &[("threads = 4", error)]);
    }

    #[test]
    fn errors_about_options_of_test_point_at_the_option() {
        let item = "async fn t() {}";
        let unknown = "unknown option `flavor`: there are `sim`, `seed = 7` and `seeds = 100`";
        fails(try_test, "flavor = 1", item, &[("flavor", unknown)]);
        fails(try_test, "seed = 7", item, &[("seed", "only the simulator has seeds: write `sim` too")]);
        fails(try_test, "sim, sim", item, &[("sim", "`sim` stands twice")]);
        fails(try_test, "sim = 1", item, &[("1", "`sim` takes no value")]);
        fails(try_test, "sim, seeds", item, &[("seeds", "`seeds` needs a number: `seeds = 7`")]);
        fails(try_test, "sim, seeds = 0", item, &[("0", "a test needs at least one seed")]);
        fails(
            try_test,
            "sim, seed = 1, seeds = 2",
            item,
            &[("seeds", "a second choice of seeds: keep one `seed` or `seeds`")],
        );
        fails(
            try_test,
            "sim, seed = 18446744073709551615",
            item,
            &[("18446744073709551615", "this seed is too large by one")],
        );
        fails(try_test, "sim, seed = \"7\"", item, &[("\"7\"", "expected integer literal")]);
        fails(
            try_test,
            "sim, seed = 99999999999999999999",
            item,
            &[("99999999999999999999", "number too large to fit in target type")],
        );
    }

    #[test]
    fn a_second_test_attribute_is_an_error() {
        let error = "`#[selkie::test]` makes it a test already: remove `#[test]`";
        fails(try_test, "", "#[test] async fn t() {}", &[("#[test]", error)]);
    }

    #[test]
    fn a_failed_main_leaves_a_main_behind() {
        let tokens = main(
            quote!(),
            quote!(
                fn main() {}
            ),
        )
        .to_string();
        assert!(tokens.contains("compile_error"));
        assert!(tokens.ends_with("fn main () { }"), "{tokens}");
        let tokens = test(
            quote!(),
            quote!(
                fn t() {}
            ),
        )
        .to_string();
        assert!(tokens.contains("compile_error") && !tokens.contains("fn t"), "{tokens}");
    }

    #[test]
    fn an_isolated_function_makes_a_call_of_itself() {
        expands(
            try_isolated(
                quote!(),
                quote!(
                    /// Kept.
                    pub(crate) fn add(mut a: u8, (b, c): (u8, u8)) -> u16 {
                        u16::from(a) + u16::from(b ^ c)
                    }
                ),
            ),
            quote! {
                /// Kept.
                pub(crate) fn add(a: u8, argument_1: (u8, u8)) -> ::selkie::isolated::Call<u16> {
                    ::selkie::__private::call::<_, u16>(
                        {
                            fn add(mut a: u8, (b, c): (u8, u8)) -> u16 {
                                u16::from(a) + u16::from(b ^ c)
                            }
                            fn __selkie_run(arguments: &[u8]) -> ::std::vec::Vec<u8> {
                                ::selkie::__private::run::<_, u16>(
                                    arguments,
                                    |(argument_0, argument_1,): (u8, (u8, u8),)| add(argument_0, argument_1)
                                )
                            }
                            static __SELKIE_JOB: ::selkie::__private::Job = ::selkie::__private::Job::new(
                                ::core::concat!(::core::module_path!(), "::add"),
                                ::core::concat!(::core::file!(), ":", ::core::line!(), ":", ::core::column!()),
                                __selkie_run,
                            );
                            ::selkie::__private::inventory::submit! {
                                ::selkie::__private::Registered::new(&__SELKIE_JOB)
                            }
                            &__SELKIE_JOB
                        },
                        &(a, argument_1,),
                    )
                }
            },
        );
    }

    #[test]
    fn errors_about_isolated_functions_point_at_what_is_wrong() {
        let plain =
            "`#[selkie::isolated]` needs a plain `fn`, as a worker runs one job at a time: remove `async`";
        fails(try_isolated, "", "async fn f() {}", &[("async", plain)]);
        let generic = "`#[selkie::isolated]` cannot be on a generic function: write one for each type";
        fails(try_isolated, "", "fn f<T>(x: T) {}", &[("<T>", generic)]);
        let method = "`#[selkie::isolated]` cannot be on a method: write a function beside the type";
        fails(try_isolated, "", "fn f(self) {}", &[("self", method)]);
        let argument = "a worker has to know the type: write it instead of `impl`";
        fails(try_isolated, "", "fn f(x: impl Copy) {}", &[("impl Copy", argument)]);
        let result = "the caller has to know the type: write it instead of `impl`";
        fails(try_isolated, "", "fn f() -> impl Copy {}", &[("impl Copy", result)]);
        let for_ever = "a worker reads its arguments for one job: remove `'static`";
        fails(try_isolated, "", "fn f(x: &'static str) {}", &[("&'static str", for_ever)]);
        let cases = "what a worker is sent does not depend on `cfg`: write a function for each case";
        fails(try_isolated, "", "fn f(#[cfg(unix)] x: u8) {}", &[("#[cfg(unix)]", cases)]);
        let bytes = "bytes are copied to a worker: take a `Vec<u8>`";
        fails(try_isolated, "", "fn f(x: &[u8]) {}", &[("&[u8]", bytes)]);
        fails(
            try_isolated,
            "",
            "unsafe fn f() {}",
            &[("unsafe", "`#[selkie::isolated]` cannot be on an `unsafe fn`")],
        );
        fails(try_isolated, "name = 1", "fn f() {}", &[("name = 1", "`#[selkie::isolated]` has no options")]);
    }
}
