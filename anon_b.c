
struct d { int min, max; char pad[64]; };
static const struct d a = { 1, 20 }, b = { 2, 3 }, c = {3,4}, e={5,6}, f={7,8}, g={9,1};
extern int use(const struct d **);
__attribute__((noinline)) int check(int i) { const struct d *all[] = { &a,&b,&c,&e,&f,&g,&a,&b,&c,&e,&f,&g,&a,&b,&c,&e,&f,&g }; return use(all)+i; }
int other(int i) { return ((const volatile struct d *)&a)->max + i; }
