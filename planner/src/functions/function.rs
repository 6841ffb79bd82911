//! `Function`: a scalar function as plain data, so that a family of functions is a table of names
//! and `fn`s instead of a struct and a trait implementation each.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arrow::{array::ArrayRef, datatypes::DataType};
use datafusion::{
    error::Result,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};

/// Answers the result type for argument types, or 42883 if there is no such function.
pub type TypeRule = fn(&[DataType]) -> Result<DataType>;
/// Answers the types the arguments are cast to before the call.
pub type Coercion = fn(&[DataType]) -> Result<Vec<DataType>>;
/// Computes the answer.
pub type Body = fn(&ScalarFunctionArgs) -> Result<ColumnarValue>;

/// A scalar function. Two of the same name are the same function.
#[derive(Debug)]
pub struct Function {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    coercion: Coercion,
    type_rule: TypeRule,
    body: Body,
}

impl Function {
    /// A function whose answer depends on nothing but its arguments; they come as they are.
    pub fn new(name: &'static str, type_rule: TypeRule, body: Body) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            signature: Signature::user_defined(Volatility::Immutable),
            coercion: |types| Ok(types.to_vec()),
            type_rule,
            body,
        }
    }

    /// Casts arguments before the call.
    pub fn coerced(mut self, coercion: Coercion) -> Self {
        self.coercion = coercion;
        self
    }

    /// Says that the answer may differ from call to call: never computed while planning.
    pub fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }

    /// Other names of it.
    pub fn aliased(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        self
    }

    /// As DataFusion takes it.
    pub fn build(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(self))
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Of a deep expression the name is short: DataFusion asks for it at every level of a chain of
    /// operators, and each would write out all levels below.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        if args.iter().any(|arg| is_deeper(arg, WRITTEN_LEVELS)) {
            let mut hasher = DefaultHasher::new();
            args.hash(&mut hasher);
            return Ok(format!("{}(#{:016x})", self.name, hasher.finish()));
        }
        let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name, args.join(",")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.coercion)(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        (self.type_rule)(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&args)
    }
}

/// Levels of calls that are written out in an expression's name.
const WRITTEN_LEVELS: usize = 6;

/// Whether calls are nested in `expr` deeper than `levels`.
fn is_deeper(expr: &Expr, levels: usize) -> bool {
    match expr {
        Expr::Cast(cast) => is_deeper(&cast.expr, levels),
        Expr::ScalarFunction(_) if levels == 0 => true,
        Expr::ScalarFunction(call) => call.args.iter().any(|arg| is_deeper(arg, levels - 1)),
        _ => false,
    }
}

/// The argument as an array of the batch's length.
pub fn array_argument(args: &ScalarFunctionArgs, index: usize) -> Result<ArrayRef> {
    args.args[index].to_array(args.number_rows)
}

/// An answer computed over arrays; a scalar again if every argument was one.
pub fn answer(args: &ScalarFunctionArgs, array: ArrayRef) -> Result<ColumnarValue> {
    let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    if is_constant && !args.args.is_empty() && !array.is_empty() {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

/// The argument as a text that is the same for all rows; `None` if NULL or a column.
pub fn constant_text(args: &ScalarFunctionArgs, index: usize) -> Option<String> {
    match args.args.get(index)? {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().map(str::to_owned),
        ColumnarValue::Array(_) => None,
    }
}
