
typedef struct { int counter; } atomic_t; struct raw { union { atomic_t val; struct { unsigned char a, b; }; }; }; struct spin { union { struct raw rlock; }; };
int (* v)(int); int f(void) { return *(int *)&v; }
