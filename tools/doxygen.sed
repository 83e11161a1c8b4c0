# Doxygen gives a comment behind `int a, b; ///< text` to b alone. For its eyes: `int a; /**< text */ int b; ///< text`.
s/::inline ESPALIER_BACKEND//
:again
s|^(.*\*/ +\| +)([A-Za-z_][A-Za-z0-9_:<>* ]*) ([A-Za-z_][A-Za-z0-9_]*( = [^,;]*\|\{\})?), ([^(]*; +///< (.*))$|\1\2 \3; /**< \6 */ \2 \5|
t again
